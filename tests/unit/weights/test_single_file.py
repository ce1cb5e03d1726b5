"""A GGUF or llama2.c file becomes the model that transformers makes of the same tensors."""

import json

import pytest
import torch
from gguf import GGMLQuantizationType as Kinds

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.session import load
from cutaway.weights import single_file
from cutaway.weights.gguf import Gguf, hugging_face, read_gguf
from cutaway.weights.safe import write_tensors
from cutaway.weights.single_file import read_model, read_words, recognise
from tests import real_models
from tests.unit.weights.test_gguf import MODELS, V, assert_same_config, assert_same_tensors, oracle
from tests.unit.weights.test_llama2c import PUBLISHED, continued, needs_data, read_vocabulary, write
from tests.unit.weights.test_llama2c import REAL as STORIES


def read_file(path, **choices):
    return read_model(recognise(path), **choices)


def theirs(table, tensors):
    """transformers' model of what it reads in a GGUF file."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**table)
    if config.model_type == "qwen3":
        config.head_dim = 32
    model = AutoModelForCausalLM.from_config(config)
    missing, extra = model.load_state_dict(tensors, strict=False)
    assert set(missing) <= {"lm_head.weight"} and not extra
    model.tie_weights()
    return model.eval()


@pytest.mark.parametrize("name", MODELS)
def test_the_logits_are_those_of_transformers(tmp_path, name):
    path = MODELS[name](tmp_path / "x.gguf", Kinds.Q8_0)
    ids_BL = torch.arange(14).view(2, 7) % V
    with torch.no_grad():
        ours_BLV, expected = read_file(path).model(ids_BL), theirs(*oracle(path))
        expected_BLV, others_BLV = expected(ids_BL).logits, expected(ids_BL.flip(1)).logits
    assert expected_BLV.std() > 1
    assert (ours_BLV - expected_BLV).abs().max() < 1e-4
    assert (ours_BLV - others_BLV).abs().max() > 1


@pytest.mark.slow
def test_smollm2_is_read_as_transformers_reads_it_and_has_its_logits():
    """One test, because transformers takes half a minute to read it."""
    path = real_models.smollm2()
    config, tensors = hugging_face(read_gguf(path))
    table, expected = oracle(path)
    assert_same_config(config, table)
    assert_same_tensors(tensors(), expected)
    ids_BL = torch.arange(1_000, 1_048).view(2, 24)
    found = read_file(path)
    assert found.length == 8192 and found.notices == ()
    with torch.no_grad():
        ours_BLV, expected_BLV = found.model(ids_BL), theirs(table, expected)(ids_BL).logits
    assert (ours_BLV - expected_BLV).abs().max() < 1e-4


@needs_data
def test_stories260k_continues_the_empty_prompt():
    found = read_file(STORIES / "stories260K.bin")
    pieces = read_vocabulary(STORIES / "tok512.bin", 512).pieces
    assert found.length == 512 and continued(found.model, pieces, 60).startswith(PUBLISHED[:120])
    loaded = load(STORIES / "stories260K.bin")
    written = loaded.generate("", max_tokens=100, temperature=0.0)
    assert written.startswith(PUBLISHED[:120]), "by the public door, the vocabulary beside it"
    streamed = "".join(loaded.stream("", max_tokens=100, temperature=0.0))
    assert streamed == written


def test_a_vocabulary_that_is_not_there_is_asked_for(tmp_path):
    with pytest.raises(InputMissingError, match=r"put it beside as tokenizer\.bin"):
        load(write(tmp_path / "m.bin"))


def test_the_dtype_is_a_choice(tmp_path):
    path = write(tmp_path / "m.bin")
    for dtype, kind in ((None, torch.float32), ("bf16", torch.bfloat16), (torch.float64, torch.float64)):
        assert {p.dtype for p in read_file(path, dtype=dtype).model.parameters()} == {kind}


def test_other_files_are_refused_with_the_way_out(tmp_path):
    write_tensors(tmp_path / "x.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(FileFormatError, match="give the folder it is from"):
        read_file(tmp_path / "x.safetensors")
    (tmp_path / "x.bin").write_bytes(b"PK\x03\x04")
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04" + bytes(99))
    for name in ("x.bin", "x.pt"):
        with pytest.raises(FileFormatError, match="never unpickles"):
            read_file(tmp_path / name)
    with pytest.raises(InputMissingError, match="cannot be read"):
        read_file(tmp_path / "none.gguf")
    (tmp_path / "x.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(FileFormatError, match=r"llama2\.c"):
        read_file(tmp_path / "x.json")


@pytest.mark.slow
def test_a_header_is_read_once(monkeypatch):
    seen = []
    monkeypatch.setattr(single_file, "read_gguf", lambda path: seen.append(path) or read_gguf(path))
    assert load(real_models.smollm2()).template and len(seen) == 1


def test_a_template_that_is_no_text_is_refused(tmp_path):
    words = {"model": "gpt2", "tokens": ("a", "b", "ab"), "merges": ("a b",), "pre": "gpt-2"}
    metadata = {f"tokenizer.ggml.{key}": value for key, value in words.items()}
    for template in (None, "{{ 1 }}"):
        told = {**metadata, **({"tokenizer.chat_template": template} if template else {})}
        assert read_words(Gguf(tmp_path / "x.gguf", 3, 32, told, {}, 0))[1] == template
    told = {**metadata, "tokenizer.chat_template": 3}
    with pytest.raises(FileFormatError, match=r"x\.gguf: tokenizer\.chat_template is no text"):
        read_words(Gguf(tmp_path / "x.gguf", 3, 32, told, {}, 0))
