"""Our writer of safetensors against the library's reader, and what a reader refuses."""

import json

import pytest
import torch
from safetensors.torch import load

from cutaway.errors import FileFormatError
from cutaway.train.checkpoint import read_counters, read_tensors, write_tensors

TENSORS = {
    "odd": torch.arange(3, dtype=torch.bfloat16),
    "matrix": torch.randn(4, 5),
    "number": torch.tensor(7.0),
    "nothing": torch.empty(0, 3),
    "turned": torch.randn(3, 2).mT,
    "whole": torch.arange(4),
}


def test_the_library_reads_what_we_write(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    for found in (load(path.read_bytes()), read_tensors(path)):
        assert found.keys() == TENSORS.keys()
        for name, tensor in TENSORS.items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_a_file_is_never_written_over(tmp_path):
    write_tensors(tmp_path / "x", TENSORS)
    with pytest.raises(FileExistsError):
        write_tensors(tmp_path / "x", TENSORS)


@pytest.mark.parametrize("cut", [0, 4, 8, 100, -1])
def test_a_file_cut_short_is_refused(cut, tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FileFormatError, match=r"x\.safetensors, byte \d+: .*(no safeten|cut off|missing)"):
        read_tensors(path)


@pytest.mark.parametrize(
    "told",
    ["", "{}", "[]", '{"format": 2}', '{"format": 1, "done": "many"}', '{"format": 1, "done": null}'],
)
def test_counters_that_are_none_are_refused(told, tmp_path):
    (tmp_path / "state.json").write_text(told)
    with pytest.raises(FileFormatError, match=r"state\.json: "):
        read_counters(tmp_path / "state.json")


def test_counters(tmp_path):
    (tmp_path / "state.json").write_text(json.dumps({"format": 1, "done": 3, "seconds": 0.5}))
    assert read_counters(tmp_path / "state.json") == {"done": 3.0, "seconds": 0.5}
