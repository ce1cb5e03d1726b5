"""`cutaway convert` and `cutaway eval`: a folder in which transformers predicts the same text as well."""

import io
import json
import math
import sys

import pytest
import torch

from cutaway import models, spec
from cutaway.app.cli import main
from cutaway.data.tokenizer import byte_tokenizer, subword_tokenizer
from cutaway.session import Session, load
from tests.parity.drawn import redraw

TEXT = "one two three, two three four; " * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama-shaped model with all its parameters random, as a folder."""
    tokenizer = subword_tokenizer([TEXT], 270)
    model = redraw(models.build(spec.small(2, 16, 2, vocab=tokenizer.vocab)), 0, torch.float32)
    return Session(model, tokenizer, 32).save_pretrained(tmp_path_factory.mktemp("made") / "model")


def test_converting_and_evaluating(folder, tmp_path, capsys):
    assert main(["convert", str(folder), str(tmp_path / "again")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'again'}\n"
    for name in ("model.safetensors", "tokenizer.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    (tmp_path / "text").write_text(TEXT)
    assert main(["eval", "-m", str(tmp_path / "again"), "--data", str(tmp_path / "text"), "--json"]) == 0
    found, expected = json.loads(capsys.readouterr().out), load(folder).loss(TEXT)
    assert found["loss"] == pytest.approx(expected.nats) and found["tokens"] == expected.count
    assert found["perplexity"] == pytest.approx(math.exp(expected.nats))


def test_transformers_has_the_same_loss(folder, tmp_path, monkeypatch, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(TEXT[:60], return_tensors="pt").input_ids[:, :30]
    theirs = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        loss = theirs(ids, labels=ids).loss.item()
    written = AutoTokenizer.from_pretrained(folder).decode(ids[0])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(written.encode())))
    assert main(["eval", "-m", str(folder), "--data", "-"]) == 0
    said = capsys.readouterr().out
    assert f"loss {loss:.4f} nats a token" in said and f"{ids.size(1) - 1} tokens scored" in said
    assert abs(loss - math.log(270)) > 0.2, "a flat prediction would hide mistakes"


def test_what_has_no_published_architecture_is_refused(tmp_path, capsys):
    model = models.build(spec.quick(1, 16, 2, vocab=257))
    from cutaway.errors import ConfigError

    with pytest.raises(ConfigError, match=r"stack\.blocks"):
        Session(model, byte_tokenizer(), 16).save_pretrained(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert main(["convert", str(tmp_path / "nowhere"), str(tmp_path / "none")]) == 66
    assert "nowhere" in capsys.readouterr().err
