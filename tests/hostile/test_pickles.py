"""No payload is ever executed: every reader meets every pickle under every name; an audit hook listens."""

import json
import subprocess
import sys

import pytest

from cutaway.errors import FileFormatError
from cutaway.weights.pickled import refuse_pickled_folder
from cutaway.weights.safe import read_tensors
from tests.hostile.payloads import plain
from tests.house.tree import ROOT


def run(folder, how: str) -> dict:
    command = [sys.executable, "-m", "tests.hostile.unpickled", str(folder), how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3_000:]
    return json.loads(done.stdout)


def test_nothing_is_executed_by_reading(tmp_path):
    found = run(tmp_path, "read")
    assert len(found) >= 30
    for kind, outcome in found.items():
        assert outcome == {"ended": ["refused"], "heard": [], "canary": False}, kind


def test_every_payload_is_alive_where_somebody_unpickles_it(tmp_path):
    found = run(tmp_path, "unpickle")
    assert len(found) >= 20
    for kind, outcome in found.items():
        assert outcome["canary"] and any(heard.startswith("os.mkdir") for heard in outcome["heard"]), kind


@pytest.mark.parametrize("name", ["x.safetensors", "pytorch_model.bin", "x.ckpt"])
def test_the_refusal_names_the_way_out(tmp_path, name):
    (tmp_path / name).write_bytes(plain(str(tmp_path / "canary"))["reduce, protocol 4"])
    with pytest.raises(FileFormatError, match=r"never unpickles.*from_pretrained\(FOLDER\)\.save_pretrained"):
        read_tensors(tmp_path / name)


def test_a_folder_of_pickled_weights_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    refuse_pickled_folder(tmp_path)
    (tmp_path / "pytorch_model-00001-of-00002.bin").write_bytes(b"")
    with pytest.raises(FileFormatError, match=r"00001-of-00002\.bin: the only weights here are pickled"):
        refuse_pickled_folder(tmp_path)
