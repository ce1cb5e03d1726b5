"""Translation as a task: its examples, its figures, and a language of eight words that is learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cutaway import load, spec
from cutaway.data import bleu, parallel
from cutaway.data.text import Document
from cutaway.errors import ConfigError, LimitError, MissingExtraError
from cutaway.models import build
from cutaway.train import translating
from cutaway.train.loss import IGNORE, token_losses
from cutaway.train.task import as_batch
from cutaway.train.tasks import make_task
from cutaway.train.translating import Translating
from tests.unit.train.tiny import RUN, Stop, remains, train

WORDS = {"eins": "one", "zwei": "two", "drei": "three", "vier": "four", "rot": "Red", "blau": "Blue"}
STEPS = 160


def sentence(generator: np.random.Generator) -> tuple[str, str]:
    """A sentence and its translation, the words in the other order."""
    words = generator.choice(list(WORDS), generator.integers(2, 6))
    return " ".join(words), " ".join(WORDS[word] for word in words[::-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder, generator = tmp_path_factory.mktemp("pairs"), np.random.default_rng(1)
    for part, count in (("train", 400), ("val", 40), ("test", 40)):
        pairs = [sentence(generator) for _ in range(count)]
        for language, side in zip(("de", "en"), zip(*pairs, strict=True), strict=True):
            (folder / f"{part}.{language}").write_text("\n".join(side) + "\n")
    return folder


def recipe(folder: Path, data: dict[str, object] | None = None, **run: object) -> spec.Recipe:
    plan = spec.Parallel(str(folder), test="test", vocab=300, **(data or {}))
    model = spec.quick_pair(layers=1, width=32, heads=2, dropout=0.0)
    given = {"steps": STEPS, "batch": 256, "length": 32, "optimizer": spec.Muon(), "smoothing": 0.1}
    return spec.Recipe("pairs", model, plan, replace(RUN, **(given | run)))


def task(folder: Path, data: dict[str, object] | None = None, **run: object) -> Translating:
    plan = recipe(folder, data, **run)
    made = make_task(plan.data, plan.run)
    assert isinstance(made, Translating)
    return made


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory) -> Path:
    return train(recipe(folder, evaluate=STEPS // 2), tmp_path_factory.mktemp("run") / "run")


def test_the_little_language_is_learned(trained, folder):
    session, made = load(trained), task(folder)
    figures = made.judge(session.model, lambda: None)
    assert figures["test_bleu"] > 90 and figures["test_bleu_greedy"] > 90 and figures["validation"] < 0.3
    assert session.translate("rot vier eins zwei") == "two one four Red"
    written = made.write(session.model, made.validation.source)
    found = bleu.detokenised(written, made.validation.target)
    assert figures["validation_bleu"] == found.score
    assert made.details["validation_bleu"] == f"{found.line()}  {found.signature}"
    assert made.sample(session.model).splitlines()[0] == f"{made.validation.source[0]} -> {written[0]}"
    untrained = build(made.fitted(session.model.plan)).eval()
    assert made.judge(untrained, lambda: None)["test_bleu"] < 30


@pytest.mark.parametrize("lower", [True, False])
def test_case_counts_unless_the_data_are_read_in_lower_case(folder, lower):
    made = task(folder, {"lower": lower})
    made.write = lambda model, sentences, beam, between: [t.lower() for t in made.validation.target]  # type: ignore[method-assign]
    found = made._score(build(made.fitted(spec.bahdanau(width=8))), made.validation, 1, lambda: None)
    assert found.score == pytest.approx(100) if lower else found.score < 50
    assert f"case:{'lc' if lower else 'mixed'}" in found.signature


def test_what_is_shown_has_words_on_both_sides(folder):
    made = task(folder)
    sentences = parallel.Sentences(("", "eins", " ", "zwei"), ("one", "", "two", "two"), "val")
    made.validation = sentences
    assert made.shown() == ("zwei", "two")
    made.validation = replace(sentences, source=("", "eins", "", ""))
    assert made.shown() is None


def test_the_loss_is_the_mean_over_tokens_whatever_is_read_together(trained, folder):
    model, made = load(trained).model, task(folder)
    ends = made.tokenizer.end
    total = count = 0.0
    for source, target in zip(made.validation.source, made.validation.target, strict=True):
        ids = [made._encode([side]) for side in (source, target)]
        one = as_batch(made._collate(*ids, [0]))
        assert one.targets[0, -1] == ends and one.inputs[0][0, -1] == ends
        total, count = total + token_losses(model, one).double().sum().item(), count + one.scored
    assert made.glance(model, lambda: None)["validation_sample"] == pytest.approx(total / count, abs=1e-6)


def test_a_step_is_its_parts(folder):
    whole, halves = task(folder, accumulate=1), task(folder, accumulate=2)
    assert len(whole.parts(3)) == 1 and len(halves.parts(3)) == 2
    for made in (whole, halves):
        parts, again = made.parts(3), task(folder, accumulate=made.run.accumulate).parts(3)
        assert all(torch.equal(a.targets, b.targets) for a, b in zip(parts, again, strict=True))
        rows = sum(len(part.targets) for part in parts)
        assert len(made.example_ids(3)) == rows
        assert all(part.targets.numel() <= 256 // made.run.accumulate for part in parts)
        sources = (folder / "train.de").read_text().splitlines()
        first = parts[0].inputs[0][0]
        assert made.tokenizer.decode(first[first != made.tokenizer.pad]) == sources[made.example_ids(3)[0]]
    assert not any((part.targets == IGNORE).all() for part in whole.parts(0))
    one, other = made.parts(3)[0], made.parts(4)[0]
    assert one.targets.shape != other.targets.shape or not torch.equal(one.targets, other.targets)


def test_a_run_goes_on_to_the_same_bytes(folder, tmp_path):
    plan = recipe(folder, steps=8, accumulate=2, evaluate=4)
    whole, out = train(plan, tmp_path / "whole"), tmp_path / "run"
    with pytest.raises(Exception, match="after step 5"):
        train(plan, out, say=Stop(5, 15))
    train(plan, out, resume=True)
    assert remains(out) == remains(whole)


def test_what_is_left_out_is_said(folder):
    assert task(folder).notices == ()
    said = task(folder, length=5).notices
    assert len(said) == 1 and "pairs left out, because a side is longer than run.length: " in said[0]
    with pytest.raises(LimitError, match="no pair"):
        task(folder, length=1)


def test_text_that_is_cut_already_is_scored_in_words(tmp_path):
    for part in ("train", "val"):
        (tmp_path / f"{part}.de").write_text("ein altes haus@@ boot\nein boot im haus\n" * 8)
        (tmp_path / f"{part}.en").write_text("an old house@@ boat\na boat at home\n" * 8)
    plan = recipe(tmp_path, {"tokenizer": "marked"}, steps=60, batch=32)
    made = make_task(replace(plan.data, test=""), plan.run)
    assert isinstance(made, Translating) and made.test is None
    assert set(made.tokenizer.names.values()) >= {"haus@@", "boot", "house@@", "boat", "<unk>"}
    made.write = lambda model, sentences, beam, between: ["an old houseboat", "a boat at home"] * 8  # type: ignore[method-assign]
    model = build(made.fitted(plan.model)).eval()
    assert made._score(model, made.validation, 5, lambda: None).score == pytest.approx(100)


def test_what_cannot_be_trained_is_refused(folder, monkeypatch):
    made = task(folder)
    with pytest.raises(ConfigError, match="Paired or a Seq2Seq"):
        made.fitted(spec.gpt2())
    with pytest.raises(ConfigError, match=r"run\.length"):
        made.fitted(spec.gehring(length=16))
    assert made.fitted(spec.bahdanau()).source.vocab == made.vocab  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "sacrebleu", None)
    with pytest.raises(MissingExtraError, match="eval"):
        task(folder)


def test_a_pair_too_long_to_be_judged_is_refused_before_training(folder, tmp_path):
    for name in ("train", "val"):
        for language in ("de", "en"):
            (tmp_path / f"{name}.{language}").write_text((folder / f"{name}.{language}").read_text())
    plan = recipe(tmp_path)

    def fitted(model: spec.Model) -> spec.Model:
        return make_task(replace(plan.data, test=""), plan.run).fitted(model)

    short = spec.gehring(1, 16, length=32)
    fitted(short)
    with (tmp_path / "val.de").open("a") as de, (tmp_path / "val.en").open("a") as en:
        de.write("rot " * 5_000 + "\n")
        en.write("red\n")
    for model, most in ((short, 32), (plan.model, 4096)):
        with pytest.raises(
            ConfigError, match=rf"val\.de-en, line 41: the source has \d+ tokens.* {most} can"
        ):
            fitted(model)


def test_long_sentences_are_judged_a_few_at_a_time(folder, trained, monkeypatch):
    made, model = task(folder), load(trained).model
    at_once = made._nats(model, made.validation, lambda: None)
    seen: list[int] = []
    monkeypatch.setattr(translating, "TOKENS_AT_ONCE", 64)
    loss = translating.token_losses
    monkeypatch.setattr(translating, "token_losses", lambda m, b: seen.append(len(b.targets)) or loss(m, b))
    assert made._nats(model, made.validation, lambda: None) == pytest.approx(at_once, abs=1e-6)
    assert sum(seen) == 40 and 1 < len(seen) < 40


@pytest.mark.parametrize("lower", [True, False])
def test_what_learned_lower_case_reads_lower_case(folder, tmp_path, lower):
    out = train(recipe(folder, {"lower": lower}, steps=2), tmp_path / "run")
    session, sentence = load(out), "rot vier"
    ids = session.tokenizer.encode(sentence).tolist()
    assert (session.tokenizer.encode(sentence.upper()).tolist() == ids) == lower
    (one,) = session.tokenizer.encode_documents([Document("", sentence.title())])
    assert (one.tolist() == ids) == lower
    assert session.tokenizer.decode(ids) == sentence
    (found,) = session.translations([sentence.upper()], max_tokens=2)
    assert (found.source == (*ids, session.tokenizer.end)) == lower
