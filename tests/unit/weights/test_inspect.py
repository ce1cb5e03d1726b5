"""What a file holds is told without reading a weight, whatever the format; what cannot be loaded is noted."""

import json
import subprocess
import sys

import pytest
import torch

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.weights.inspect import Entry, Total, inspect
from cutaway.weights.keys import is_table, same
from cutaway.weights.safe import write_tensors
from cutaway.weights.single_file import recognise
from tests.hostile.gguf_files import U64, but, with_key
from tests.unit.weights.saved import save_run
from tests.unit.weights.test_llama2c import SIZES, write
from tests.unit.weights.test_safe import INDEX, sharded

CONFIG = {
    "model_type": "gpt2",
    "architectures": ["GPT2LMHeadModel"],
    "n_embd": 8,
    "n_layer": 1,
    "n_head": 2,
    "n_positions": 4,
    "vocab_size": 5,
}


def test_a_safetensors_file(tmp_path):
    path = tmp_path / "x.safetensors"
    tensors = {"b": torch.zeros(2, 3), "a": torch.zeros(4, dtype=torch.bfloat16), "none": torch.zeros(0, 9)}
    write_tensors(path, tensors, {"format": "pt"})
    found = inspect(path)
    assert (found.format, found.metadata, found.notes) == ("safetensors", {"format": "pt"}, ())
    assert found.tensors[0] == Entry("b", "F32", (2, 3), 6, 24, "x.safetensors")
    assert found.total == Total(3, 10, 32)
    assert found.dtypes == {"F32": Total(2, 6, 24), "BF16": Total(1, 4, 8)}
    assert json.loads(json.dumps(found.table()))["tensors"][0]["shape"] == [2, 3]


def test_shards_by_their_index_and_by_their_folder(tmp_path):
    tensors, _ = sharded(tmp_path)
    for path in (tmp_path / INDEX, tmp_path):
        found = inspect(path)
        assert found.format.endswith("safetensors in 2 files")
        assert {entry.name: entry.file for entry in found.tensors}["c"] == "two.safetensors"
        assert found.total == Total(3, 6, sum(t.numel() * 4 for t in tensors.values()))
    assert found.notes == ("config.json is missing: the folder cannot be loaded",)


def test_a_hugging_face_folder_and_what_loading_it_would_say(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    GPT2LMHeadModel(GPT2Config(**CONFIG)).save_pretrained(tmp_path)
    found = inspect(tmp_path)
    assert found.format == "Hugging Face folder, safetensors" and found.metadata["n_embd"] == 8
    assert not any("cannot be loaded" in note for note in found.notes)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_embd": 16}))
    assert any("cannot be loaded" in note and "shape" in note for note in inspect(tmp_path).notes)
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "mamba"}))
    assert any("'mamba' is not built" in note for note in inspect(tmp_path).notes)
    (tmp_path / "config.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(FileFormatError, match="'a' stands twice"):
        inspect(tmp_path)


def test_copies_of_tensors_are_looked_at_without_their_numbers(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    model = GPT2LMHeadModel(GPT2Config(**CONFIG))
    model.save_pretrained(tmp_path)
    tensors = {name: value.detach() for name, value in model.state_dict().items()}
    assert "lm_head.weight" in tensors
    write_tensors(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    assert not any("cannot be loaded" in note for note in inspect(tmp_path).notes)
    table = torch.empty(4, 8, device="meta")
    assert same(table, table.clone()) and not same(table, table.bfloat16())
    assert is_table(table, torch.zeros_like) and not is_table(table[0], torch.zeros_like)


def test_a_gguf_file(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(but())
    found = inspect(path)
    assert (found.format, found.notes) == ("GGUF version 3", ())
    assert found.metadata["tokenizer.ggml.tokens"] == {"length": 3, "first": ["a", "b", "ü"]}
    assert found.metadata["custom.large"] == str(2**63)
    assert found.dtypes["Q8_0"] == Total(4, 4 * 32 * 32, 4 * 34 * 32)
    assert json.loads(json.dumps(found.table(), allow_nan=False))["format"] == "GGUF version 3"
    path.write_bytes(with_key("llama.strange", U64, 1))
    assert inspect(path).notes == (
        "cannot be loaded: llama.strange: not known here, and it may change the model",
    )


def test_a_llama2c_file(tmp_path):
    found = inspect(write(tmp_path / "m.bin"))
    assert found.format == "llama2.c" and found.metadata["width"] == SIZES[0] and found.metadata["tied"]
    assert 28 + found.total.bytes == (tmp_path / "m.bin").stat().st_size


def test_a_run_and_a_checkpoint_in_it(tmp_path):
    run = save_run(tmp_path / "run")
    found = inspect(run)
    assert found.format == "Cutaway run" and found.metadata["step"] == 10
    assert found.metadata["spec"]["kind"] == "Single" and found.total.tensors > 10
    assert inspect(run / "checkpoints" / "step-000005").metadata["step"] == 5
    with pytest.raises(InputMissingError, match="no checkpoint yet"):
        inspect(save_run(tmp_path / "new", steps=()))


def test_what_holds_no_weights_is_refused(tmp_path):
    (tmp_path / "x.txt").write_text("text")
    with pytest.raises(FileFormatError, match="neither safetensors, GGUF nor llama2"):
        inspect(tmp_path / "x.txt")
    with pytest.raises(InputMissingError, match="neither a run nor safetensors"):
        inspect(tmp_path)
    (tmp_path / "x.gguf").write_bytes(b"")
    for read in (inspect, recognise):
        with pytest.raises(FileFormatError, match="does not begin with GGUF"):
            read(tmp_path / "x.gguf")
    (tmp_path / "x.gguf").unlink()
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    for path in (tmp_path, tmp_path / "pytorch_model.bin"):
        with pytest.raises(FileFormatError, match=r"never unpickles|0 bytes are no llama2"):
            inspect(path)
    with pytest.raises(InputMissingError, match="cannot be read"):
        inspect(tmp_path / "none.safetensors")


UNREAD = """
import resource, sys
from cutaway.weights.inspect import inspect
inspect(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert inspect(sys.argv[2]).total.bytes == 2**28
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_no_weight_is_read(tmp_path):
    small, large = tmp_path / "s.safetensors", tmp_path / "l.safetensors"
    write_tensors(small, {"x": torch.zeros(1)})
    header = json.dumps({"x": {"dtype": "U8", "shape": [2**28], "data_offsets": [0, 2**28]}}).encode()
    with large.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 2**28)
    command = [sys.executable, "-c", UNREAD, str(small), str(large)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 8
