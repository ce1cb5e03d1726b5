"""Mutated safetensors and GGUF files: CUTAWAY_FUZZ says how many, 3,000 of each if it is not set."""

import json
import os
import subprocess
import sys

import pytest

from cutaway.weights.gguf import read_gguf
from tests.hostile import fuzz
from tests.house.tree import ROOT

FILES = int(os.environ.get("CUTAWAY_FUZZ", "3000"))
MOST_SECONDS = 0.1  # of one file
MOST_GROWN = 50  # MiB


@pytest.mark.parametrize("kind", ["safetensors", "gguf"])
def test_mutated_files_are_read_rightly_or_refused_in_time_and_memory(kind):
    command = [sys.executable, "-m", "tests.hostile.fuzz", kind, "--n", str(FILES)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600 + FILES / 10)
    assert done.returncode == 0, done.stderr[-3_000:]
    found = json.loads(done.stdout)
    assert found["files"] == found["read"] + found["refused"] == FILES
    assert found["slowest"] < MOST_SECONDS and found["grown"] < MOST_GROWN, found
    # the mutator reaches deep: some files are still good, and many different rules are broken
    assert found["read"] > FILES / 50 and found["rules"] > 15, found
    assert kind != "gguf" or found["models"] > FILES / 200, found


def dropping(read):
    """A reader that loses the last tensor."""

    def read_less(path):
        tensors = read(path)
        tensors.popitem()
        return tensors

    return read_less


def test_a_campaign_finds_a_reader_that_is_wrong(monkeypatch, tmp_path):
    monkeypatch.setattr(fuzz.tempfile, "tempdir", str(tmp_path))
    assert fuzz.campaign("safetensors", 40).read > 3
    monkeypatch.setattr(fuzz, "read_tensors", dropping(fuzz.read_tensors))
    with pytest.raises(AssertionError):
        fuzz.campaign("safetensors", 40)
    kept = list(tmp_path.glob("cutaway-fuzz-0-*.safetensors"))
    assert len(kept) == 1, "the file that it stumbled over is kept"


def test_a_campaign_finds_an_error_without_a_type(monkeypatch, tmp_path):
    def careless(path):
        found = read_gguf(path)
        found.metadata["general.note"]  # most of the files have none
        return found

    monkeypatch.setattr(fuzz.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(fuzz, "read_gguf", careless)
    with pytest.raises(KeyError, match=r"general\.note"):
        fuzz.campaign("gguf", 90)
