"""Mutated config.json files: each is a model that computes, or one typed error; no import, little memory.

CUTAWAY_MUTATIONS asks for more than the few of every run.
"""

import json
import os
import random
import sys
import tracemalloc

import pytest

from cutaway.errors import FileFormatError
from cutaway.weights.config import Table, read_config
from cutaway.weights.folder import assemble
from cutaway.weights.safe import read_tensors
from tests.parity.checkpoints import SMALLEST, save

MUTATIONS = int(os.environ.get("CUTAWAY_MUTATIONS", "40"))  # of each family
MOST_BYTES = 64 * 2**20
ODD = (
    *("attacker/repo", "", "\u0000", "0", "../../x", -1, 0, 1, 2, 3, 7, 255, 2**31, 2**63, 2**80, -(2**80)),
    *(0.5, -0.0, 1e308, 1e-320, [], {}, [[]], None, True, False, {"rope_type": "default"}, ["x"] * 40),
)


def mutated(text: bytes, pick: random.Random) -> bytes:
    """The text with one to three changes, of its bytes or of its values."""
    for _ in range(pick.randint(1, 3)):
        if pick.random() < 0.3:
            place, data = pick.randrange(len(text)), bytearray(text)
            match pick.randrange(4):
                case 0:
                    data[place] = pick.randrange(256)
                case 1:
                    del data[place : place + pick.randint(1, 30)]
                case 2:
                    data[place:place] = pick.choice((b"[", b"{", b'"', b"9" * 5000, b"\\ud800", b",", b"NaN"))
                case _:
                    data = data[:place]
            text = bytes(data)
            continue
        try:
            table = json.loads(text)
            key = pick.choice(list(table))
        except (ValueError, TypeError, IndexError, RecursionError):
            return text
        match pick.randrange(4):
            case 0:
                table[key] = pick.choice(ODD)
            case 1:
                del table[key]
            case 2:
                table[key] = table[pick.choice(list(table))]
            case _:
                value = table[key]
                scaled = isinstance(value, int | float) and not isinstance(value, bool)
                table[key] = value * pick.choice((2, -1, 3, 1000)) if scaled else [value]
        text = json.dumps(table).encode()
    return text


@pytest.mark.parametrize("name", SMALLEST)
def test_a_mutated_config_is_a_model_or_a_typed_error(name, tmp_path):
    folder = save(SMALLEST[name].build(), tmp_path)
    whole, file = (folder / "config.json").read_bytes(), folder / "model.safetensors"
    tensors, pick, imported = read_tensors(file), random.Random(name), set(sys.modules)
    most = sum(tensor.numel() for tensor in tensors.values())
    made = refused = 0
    tracemalloc.start()
    for _ in range(MUTATIONS):
        path = tmp_path / "mutated.json"
        path.write_bytes(mutated(whole, pick))
        try:
            model = assemble(read_config(path), tensors, file).model
        except FileFormatError as problem:
            refused += 1
            assert str(problem).startswith((str(path), str(file))) and len(str(problem)) < 2_000
        else:
            made += 1
            assert sum(parameter.numel() for parameter in model.parameters()) <= most
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made and refused and peak < MOST_BYTES and set(sys.modules) == imported


def test_a_mutation_changes_something():
    text = json.dumps({"a": 1, "b": "c"}).encode()
    assert len({mutated(text, random.Random(seed)) for seed in range(50)}) > 20
    assert Table({"a": 1}).unknown() == ("a",)
