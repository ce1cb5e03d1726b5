"""`cutaway inspect`: plain lines, JSON, a table on a terminal, and nothing that could steer one."""

import json
import sys

import pytest
import torch

from cutaway.app.cli import main
from cutaway.app.inspect import shown, size
from cutaway.weights.safe import write_tensors


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"layer.weight": torch.zeros(2, 3), "scale": torch.tensor(1.0), "evil\x1b[2J\n": torch.zeros(1)}
    write_tensors(path, tensors, {"format": "pt", "told": "a\x1b]0;title\x07\nb"})
    return path


def test_plain_lines(file, capsys):
    assert main(["inspect", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [f"{file}: safetensors", "3 tensors, 8 numbers, 32 bytes", f"  F32      {lines[1]}"]
    assert "layer.weight\tF32\t2 × 3\t24" in lines and "scale\tF32\tone number\t4" in lines
    assert "  format = pt" in lines and r"  told = a\x1b]0;title\x07\nb" in lines
    assert r"evil\x1b[2J\n	F32	1	4" in lines


def test_json(file, capsys):
    assert main(["inspect", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"] == {"tensors": 3, "elements": 8, "bytes": 32}
    assert {entry["name"]: entry["shape"] for entry in found["tensors"]}["layer.weight"] == [2, 3]
    assert found["metadata"]["told"] == "a\x1b]0;title\x07\nb"


def test_a_table_on_a_terminal(file, capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert main(["inspect", str(file)]) == 0
    out = capsys.readouterr().out
    assert any(line.split() == ["tensor", "dtype", "shape", "bytes"] for line in out.splitlines())
    assert "layer.weight" in out and "\x07" not in out and "[2J" in out and "\x1b[2J" not in out


def test_errors_are_one_line(tmp_path, capsys):
    (tmp_path / "x.safetensors").write_bytes(b"PK\x03\x04")
    assert main(["inspect", str(tmp_path / "x.safetensors")]) == 65
    assert main(["inspect", str(tmp_path / "none.gguf")]) == 66
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 2 and "never unpickles" in told.err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (3, "3"),
        ("x" * 200, "x" * 96 + " ..."),
        ({"length": 3, "first": ["a", "b", "c"]}, "3 values: a, b, c"),
        ({"length": 9, "first": [1, 2]}, "9 values: 1, 2, ..."),
        ({"a": [1, None]}, '{"a": [1, null]}'),
        ("\u202eabc", r"\u202eabc"),
    ],
)
def test_values_are_shown_on_one_line(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1,023 bytes"), (1536, "1.5 KiB"), (2**40, "1.0 TiB"), (2**50, "1024.0 TiB")],
)
def test_sizes(count, text):
    assert size(count) == text
