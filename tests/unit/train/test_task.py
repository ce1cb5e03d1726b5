"""Loss of a text: windows of the training length, every token after the first scored once."""

import math
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cutaway import spec
from cutaway.errors import ConfigError, LimitError
from cutaway.models import build
from cutaway.spec.presets import quick, vaswani
from cutaway.train import language as language_module
from cutaway.train.language import Language
from cutaway.train.loss import IGNORE
from cutaway.train.reversing import Reversing
from cutaway.train.task import perplexity
from cutaway.train.tasks import make_task
from tests.unit.train.tiny import recipe


def nothing() -> None:
    """In place of looking at signals."""


def language(text: Path, length: int, **run) -> Language:
    plan = recipe(text, length=length, **run)
    made = make_task(plan.data, plan.run)
    assert isinstance(made, Language)
    return made


def drawn(task: Language):
    """A model whose predictions are not all alike."""
    model = build(task.fitted(quick(layers=2, width=16, heads=2)), seed=4).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return model


@pytest.mark.parametrize("length", [5, 16, 64])
@pytest.mark.parametrize("at_once", [8, 8192])
def test_the_whole_text_is_scored_token_by_token(length, at_once, text, monkeypatch):
    """Brute force: each token after the first from those before it in its window, one forward pass each."""
    monkeypatch.setattr(language_module, "TOKENS_AT_ONCE", at_once)
    task = language(text, length)
    tokens = torch.from_numpy(task.validation.tokens[:140].astype(np.int64))
    object.__setattr__(task.validation, "tokens", tokens.numpy())
    model, nats = drawn(task), []
    for place in range(1, len(tokens)):
        first = (place - 1) // length * length
        with torch.no_grad():
            logits = model(tokens[None, first:place])[0, -1]
        nats.append(F.cross_entropy(logits, tokens[place]).item())
    found = task.judge(model, nothing)
    assert len(nats) == len(tokens) - 1
    assert found["validation"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    assert found["validation_head"] == pytest.approx(sum(nats[:-13]) / (len(nats) - 13), rel=1e-5)
    assert found["validation_tail"] == pytest.approx(sum(nats[-13:]) / 13, rel=1e-5)
    assert found["bits_per_byte"] == pytest.approx(sum(nats) / math.log(2) / task.validation.bytes, rel=1e-5)


def test_a_model_that_knows_frequencies_only_reaches_the_unigram_entropy(text):
    """An independent figure: the entropy counted from the text, through the whole path of judging."""
    task = language(text, 16)
    model = build(task.fitted(quick(layers=1, width=16, heads=2)), seed=0).eval()
    tokens = task.validation.tokens.tolist()
    counts = Counter(tokens[1:])
    share = torch.full((task.vocab,), 1e-12)
    for token, count in counts.items():
        share[token] = count / (len(tokens) - 1)
    model.head.forward = lambda x_BLD, *_: share.log().expand(*x_BLD.shape[:2], -1)
    entropy = -sum(c / (len(tokens) - 1) * math.log(c / (len(tokens) - 1)) for c in counts.values())
    assert task.judge(model, nothing)["validation"] == pytest.approx(entropy, rel=1e-5)


def test_a_glance_reads_evenly_spaced_whole_windows(text, monkeypatch):
    monkeypatch.setattr(language_module, "GLANCE_TOKENS", 64)
    task = language(text, 16)
    model = drawn(task)
    seen: list[torch.Tensor] = []
    features = model.features
    monkeypatch.setattr(
        model, "features", lambda tokens, **rest: (seen.append(tokens), features(tokens, **rest))[1]
    )
    found = task.glance(model, nothing)
    windows = torch.cat(seen)
    text_ids = torch.from_numpy(task.validation.tokens.astype(np.int64))
    assert windows.shape == (4, 16)
    assert torch.equal(windows[0], text_ids[:16])
    scored = len(text_ids) - 1
    last = (scored - scored // 10) // 16 - 1
    assert torch.equal(windows[-1], text_ids[last * 16 : last * 16 + 16])
    assert math.isfinite(found["validation_sample"])


def test_a_glance_does_not_see_the_last_tenth(text):
    task = language(text, 16)
    model, tokens = drawn(task), task.validation.tokens.copy()
    before = task.glance(model, nothing), task.judge(model, nothing)
    tail = (len(tokens) - 1) // 10
    tokens[-tail:] = np.roll(tokens[-tail:], 3)
    object.__setattr__(task.validation, "tokens", tokens)
    after = task.glance(model, nothing), task.judge(model, nothing)
    assert after[0] == before[0] and after[1]["validation_head"] == before[1]["validation_head"]
    assert after[1]["validation_tail"] != before[1]["validation_tail"]
    tokens[-tail - 1] = tokens[-tail - 1] == 65  # control: the last token before the tail
    assert task.judge(model, nothing)["validation_head"] != before[1]["validation_head"]


def test_a_validation_text_shorter_than_a_window_is_still_judged(text):
    task = language(text, 16)
    object.__setattr__(task.validation, "tokens", task.validation.tokens[:9])
    assert task.glance(drawn(task), nothing)["validation_sample"] == pytest.approx(
        task.judge(drawn(task), nothing)["validation_head"]
    )
    object.__setattr__(task.validation, "tokens", task.validation.tokens[:2])
    assert all(math.isfinite(value) for value in task.judge(drawn(task), nothing).values())


def test_parts_are_the_batch_in_order_and_targets_the_next_tokens(text):
    whole, parts = (language(text, 16, batch=4, accumulate=k).parts(3) for k in (1, 4))
    assert torch.equal(whole[0].inputs[0], torch.cat([part.inputs[0] for part in parts]))
    assert torch.equal(whole[0].targets, torch.cat([part.targets for part in parts]))
    assert torch.equal(whole[0].inputs[0][:, 1:], whole[0].targets[:, :-1])
    assert len(language(text, 16).example_ids(3)) == 4


def test_the_digest_knows_the_validation_text_too(tmp_path):
    digests = set()
    for ending in ("", "x", "yx"):
        path = tmp_path / "text.txt"
        path.write_text("some words to learn from\n" * 40 + ending)
        digests.add(language(path, 16).digest)
    assert len(digests) == 3


def test_too_few_tokens_are_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("abc")
    with pytest.raises(LimitError):
        language(path, 16)


@pytest.mark.parametrize(
    ("data", "model"),
    [
        (spec.Text(("x",)), vaswani(layers=1, width=16, heads=2, hidden=32, vocab=11)),
        (spec.Text(("x",)), spec.presets.vit(layers=1, width=16, heads=2)),
        (spec.Text(("x",)), spec.presets.bert(layers=1, width=16, heads=2)),
        (spec.Reversal(), quick(layers=1, width=16, heads=2)),
    ],
    ids=["text and pair", "text and images", "text and what sees all", "pairs and single"],
)
def test_a_model_that_cannot_learn_from_the_data_is_refused_by_name(data, model, text):
    task = Reversing(data, spec.Run()) if isinstance(data, spec.Reversal) else language(text, 16)
    with pytest.raises(ConfigError, match=r"^data (Text|Reversal) trains a (Single|Paired)"):
        task.fitted(model)


def test_a_model_with_too_few_positions_is_refused_before_a_step(text):
    task = language(text, 16)
    task.fitted(spec.gpt2(layers=1, width=16, heads=2, length=16))
    with pytest.raises(ConfigError, match=r"run\.length: 16 tokens .* positions for 15"):
        task.fitted(spec.gpt2(layers=1, width=16, heads=2, length=15))
    pairs, pair = Reversing(spec.Reversal(), spec.Run()), vaswani(layers=1, width=16, heads=2, hidden=32)
    for most in (21, 20):
        learned = replace(pair, source=replace(pair.source, position=spec.Learned(most)))
        with pytest.raises(ConfigError, match=r"data\.longest: 21 tokens") if most < 21 else nullcontext():
            pairs.fitted(learned)


def test_every_target_of_a_pair_is_scored_and_nothing_else():
    task = Reversing(spec.Reversal(letters=4, shortest=1, longest=17), spec.Run(batch=8, accumulate=2))
    for part, pairs in zip(
        task.parts(2),
        (task.made.batch_at(2, 8, slice(0, 4)), task.made.batch_at(2, 8, slice(4, 8))),
        strict=True,
    ):
        assert part.scored == (pairs.target_lengths_B - 1).sum()
        for row, length in enumerate(pairs.target_lengths_B):
            scored = part.targets[row][part.targets[row] != IGNORE]
            assert scored.tolist() == pairs.target_BL[row, 1:length].tolist()
    assert task.example_ids(2) == list(range(16, 24))


def test_exact_match_is_1_for_a_model_that_writes_the_answers_and_0_for_one_that_does_not(monkeypatch):
    task = Reversing(spec.Reversal(letters=4, shortest=1, longest=17), spec.Run())
    model = build(task.fitted(vaswani(layers=1, width=16, heads=2, hidden=32, vocab=9))).eval()
    assert task.judge(model, nothing)["exact_strings"] < 0.2
    monkeypatch.setattr(task, "write", lambda model, pairs: torch.from_numpy(pairs.target_BL)[:, 1:])
    found = task.judge(model, nothing)
    assert found["exact_strings"] == found["exact_lengths"] == 1.0


def test_an_unknown_kind_of_data_is_refused():
    with pytest.raises(ConfigError, match="known are Text, Reversal, Parallel"):
        make_task(spec.run.Data(), spec.Run())


def test_a_perplexity_too_large_for_a_number_is_infinite():
    assert perplexity(0.0) == 1.0 and perplexity(1.0) == math.e
    assert perplexity(1e4) == perplexity(math.inf) == math.inf and math.isnan(perplexity(math.nan))


def test_text_of_another_kind_is_judged_beside_and_never_learned(text, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("zebra quagga okapi\n" * 60)
    plain, plan = recipe(text), recipe(text)
    plan = replace(plan, data=replace(plan.data, general=(str(other),)))
    one, both = (make_task(each.data, each.run) for each in (plain, plan))
    assert one.digest != both.digest and one.example_ids(3) == both.example_ids(3)
    assert all(
        torch.equal(a.inputs[0], b.inputs[0]) for a, b in zip(one.parts(0), both.parts(0), strict=True)
    )
    model = build(both.fitted(plan.model)).eval()
    figures = both.judge(model, lambda: None)
    ids = torch.tensor(list(other.read_bytes()))
    length = plan.run.length
    windows = ids[: (len(ids) - 1) // length * length + 1].unfold(0, length + 1, length)
    wanted = F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten())
    assert figures["general"] == pytest.approx(wanted.item(), abs=1e-4)
    assert "general" not in one.judge(model, lambda: None)
