"""Tracing: what is asked for, of models, compiled models and sessions, from text, ids, batches and pairs."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cutaway import models, spec
from cutaway.errors import ConfigError, LimitError, TapError
from cutaway.generate.embed import embed
from cutaway.study import ablate, edit, trace
from cutaway.study.specimen import read
from cutaway.tap import Recorder
from tests.unit.generate.test_embed import words
from tests.unit.tiny import SIZES, plan, reads, redrawn, tiny


class Letters:
    """a is 0, b is 1, ..."""

    record = {"post_processor": None}

    def encode(self, text: str) -> np.ndarray:
        return np.array([ord(letter) - ord("a") for letter in text], dtype=np.uint16)


def session(preset: str) -> SimpleNamespace:
    return SimpleNamespace(model=tiny(preset), tokenizer=Letters())


@pytest.mark.parametrize("preset", SIZES)
def test_a_trace_is_what_a_recorder_sees(preset):
    model, inputs = tiny(preset), reads(plan(preset))
    given = inputs if len(inputs) > 1 else inputs[0]
    seen, tap = trace(model, given), Recorder(models.sites(model.plan))
    with torch.no_grad():  # with gradients SDPA takes another kernel beside a bias that learns
        model(*inputs, tap=tap)
    assert list(seen) == list(models.sites(model.plan))
    assert all(torch.equal(seen[name], tap.seen[name]) for name in seen)
    assert not any(value.requires_grad for value in seen.values())


def test_keep_chooses():
    seen = trace(tiny("gpt2"), [1, 2, 3], keep=["blocks.*.attn.pattern", "blocks.*.out"])
    assert list(seen) == [f"blocks.{d}.{site}" for d in (0, 1) for site in ("attn.pattern", "out")]
    assert seen["blocks.1.attn.pattern"].shape == (1, 4, 3, 3)
    assert "blocks.1.attn.pattern                    (1, 4, 3, 3)" in repr(seen)
    assert list(trace(tiny("gpt2"), [1], keep="logits")) == ["logits"]


def test_an_alias_finds_the_same_tensor():
    seen = trace(tiny("gpt2"), [1, 2, 3], keep=["blocks.1.attn.hook_z", "blocks.0.mid"])
    assert seen["blocks.1.attn.hook_z"] is seen["blocks.1.attn.mix"]
    assert "blocks.0.hook_resid_mid" in seen and "blocks.1.mid" not in seen and "nothing" not in seen
    with pytest.raises(TapError, match=r"tap blocks.1.mid was not kept: did you mean blocks.0.mid"):
        seen["blocks.1.mid"]
    with pytest.raises(TapError, match=r"means 2 taps, the first blocks.0.mid: name one"):
        seen["blocks.*.mid"]


def test_text_ids_arrays_tensors_and_batches_are_read():
    one = session("small")
    want = trace(one.model, torch.tensor([[0, 1, 2, 3]]))["logits"]
    for given in ("abcd", [0, 1, 2, 3], np.array([0, 1, 2, 3]), torch.tensor([0, 1, 2, 3])):
        assert torch.equal(trace(one, given)["logits"], want)
    both = trace(one, ["abcd", "ba"])["logits"]
    assert both.shape == (2, 4, 11)
    torch.testing.assert_close(both[:1], want, rtol=0, atol=1e-10)
    torch.testing.assert_close(both[1:, :2], trace(one, "ba")["logits"], rtol=0, atol=1e-10)


def test_an_encoder_reads_a_text_as_embed_and_fill_do():
    tokenizer = words()
    plan = spec.bert(2, 16, 4, tokenizer.vocab, length=32)
    one = SimpleNamespace(model=redrawn(models.build(plan)), tokenizer=tokenizer, length=5)
    ids = tokenizer.inner.encode("a cat").ids
    assert ids[0] == tokenizer.begin and ids[-1] == tokenizer.end and len(ids) == 4
    seen = trace(one, ["a cat", "a quick dog"], keep="blocks.1.out")["blocks.1.out"]
    assert seen.shape == (2, 5, 16)
    torch.testing.assert_close(seen[0, :4], trace(one.model, ids)["blocks.1.out"][0], rtol=0, atol=1e-10)
    (vector,) = embed(one.model, tokenizer, ["a cat"], normalise=False)
    torch.testing.assert_close(seen[0, :4].mean(0).float(), vector, rtol=0, atol=1e-6)
    specimen, notices = read(one, "the quick brown fox jumps")
    whole = tokenizer.inner.encode("the quick brown fox jumps").ids
    assert specimen.ids.tolist() == [*whole[:4], whole[-1]]
    assert notices == ["Shown are the first 5 of the text's 7 tokens."]


def test_a_pair_is_read_by_an_encoder_decoder():
    one = session("t5")
    seen = trace(one, ("abcdefg", "ab"), keep="**.pattern")
    assert seen["encoder.blocks.0.attn.pattern"].shape == (1, 4, 7, 7)
    assert seen["decoder.blocks.0.cross.pattern"].shape == (1, 4, 2, 7)
    padded = trace(one, (["abcdefg", "ba"], ["ab", "cde"]), keep="logits")["logits"]
    alone = trace(one, ("ba", "cde"), keep="logits")["logits"]
    torch.testing.assert_close(padded[1:], alone, rtol=0, atol=1e-10)
    with pytest.raises(LimitError, match="reads a pair"):
        trace(one, "ab")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no token to read"),
        ("", "no token to read"),
        ([[1, 2], []], "no token to read"),
        ([11], "token 11 is outside the vocabulary of 11"),
        ([-1, 3], "token -1 is outside the vocabulary of 11"),
    ],
)
def test_what_cannot_be_read_is_refused(given, said):
    with pytest.raises(LimitError, match=said):
        trace(session("gpt2"), given)


def test_text_needs_a_tokenizer_and_a_subject_needs_a_model():
    with pytest.raises(LimitError, match="text needs a tokenizer"):
        trace(tiny("gpt2"), "abc")
    for thing in (torch.nn.Linear(2, 2), SimpleNamespace(model=None), 3):
        with pytest.raises(ConfigError, match="is neither a model of cutaway nor a session"):
            trace(thing, [1])


def test_tracing_turns_dropout_off_and_training_on_again():
    model = models.build(plan("small", dropout=0.5)).train()
    one, two = (trace(model, [1, 2, 3])["logits"] for _ in range(2))
    assert torch.equal(one, two) and model.training and model.blocks[0].training


def test_edits_in_force_are_traced():
    model = tiny("gpt2")
    plain = trace(model, [1, 2, 3])
    with edit(model, {"blocks.0.attn.mix": ablate(heads=[2])}):
        seen = trace(model, [1, 2, 3])
        assert torch.equal(seen["logits"], model(torch.tensor([[1, 2, 3]])))
    assert not seen["blocks.0.attn.mix"][:, 2].any() and seen["blocks.0.attn.mix"][:, 1].any()
    assert not torch.equal(seen["logits"], plain["logits"])
    assert torch.equal(trace(model, [1, 2, 3])["logits"], plain["logits"])
