"""safetensors files from strangers: every rule has a file that breaks it alone, and a good file passes."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.weights.safe import read_header, read_tensors
from tests.hostile.safetensors_files import BAD, DATA, GOOD, packed


def test_the_good_file_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(GOOD))
    header, tensors = read_header(path), read_tensors(path)
    assert header.metadata == {"format": "pt"} and header.size == path.stat().st_size
    assert list(header.tensors) == list(tensors) == ["a.weight", "b", "c", "none"]
    for name, tensor in tensors.items():
        info = header.tensors[name]
        raw = path.read_bytes()[info.begin : info.end]
        assert (
            tensor.shape == info.shape
            and tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes() == raw
        )
    assert b"".join(path.read_bytes()[i.begin : i.end] for i in header.tensors.values()) == DATA


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_its_rule(tmp_path, name):
    data, rule = BAD[name]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    for read in (read_header, read_tensors):
        with pytest.raises(FileFormatError, match=rule) as refused:
            read(path)
        assert refused.value.path == path and len(str(refused.value)) < 500 + len(str(path))


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    whole, path = packed(GOOD), tmp_path / "x.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            read_header(path)


def test_a_truth_value_of_2_is_refused_once_the_data_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed(GOOD, DATA[:-1] + b"\x02"))
    assert "c" in read_header(path).tensors
    with pytest.raises(FileFormatError, match="'c' holds what is neither true nor false"):
        read_tensors(path)


def test_no_file_and_a_folder_are_missing(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(InputMissingError, match="cannot be read"):
            read_tensors(path)


MAPPED = """
import resource, sys
from pathlib import Path
from cutaway.weights.safe import read_tensors
small, large = sys.argv[1:]
read_tensors(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = read_tensors(large)
assert large in Path("/proc/self/maps").read_text()
value = found["x"][2**20:2**20 + 4].sum().item()
found["x"][:4] = 7
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(value, (after - before) // 1024)
"""


def test_tensors_are_mapped_and_the_file_stays_as_it_is(tmp_path):
    small, large = tmp_path / "s.safetensors", tmp_path / "l.safetensors"
    small.write_bytes(packed(GOOD))
    size = 2**26  # 256 MiB, nearly all of them a hole of the disk
    text = json.dumps({"x": {"dtype": "F32", "shape": [size], "data_offsets": [0, size * 4]}}).encode()
    with large.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.seek(2**22, 1)
        file.write(np.arange(4, dtype="<f4").tobytes())
        file.truncate(8 + len(text) + size * 4)
    command = [sys.executable, "-c", MAPPED, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    value, grown = done.stdout.split()
    assert float(value) == 6.0 and int(grown) < 16, f"{grown} MiB more for a mapped file of 256"
    assert float(read_tensors(large)["x"][:4].sum()) == 0.0
