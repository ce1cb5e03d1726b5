"""Masked language modelling: the loss against algorithm 12 and against transformers, and what is judged."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cutaway import formal, load, spec
from cutaway.data.masking import mask_id
from cutaway.errors import ConfigError, InputMissingError, LimitError
from cutaway.models import build
from cutaway.spec.presets import bert, quick
from cutaway.train.loss import IGNORE, Batch, next_token_loss, scored_features, scored_token_loss
from cutaway.train.masked import Masking, read_source
from cutaway.train.signals import RunInterruptedError
from cutaway.train.tasks import make_task
from tests.parity import drawn, theta
from tests.unit.models.test_parity import bert_pair
from tests.unit.tiny import VOCAB, tiny
from tests.unit.train.tiny import RUN, Stop, remains, train


def nothing() -> None:
    """In place of looking at signals."""


def masking(text: Path, run: spec.Run = RUN, **parts) -> Masking:
    made = make_task(spec.MaskedText((str(text),), tokenizer="bytes", split="tail", **parts), run)
    assert isinstance(made, Masking)
    return made


def small_bert(**sizes) -> spec.Single:
    return bert(**({"layers": 1, "width": 16, "heads": 2, "length": 16} | sizes))


def drawn_model(task: Masking, seed: int = 1):
    model = build(task.fitted(small_bert())).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model


# The loss ---------------------------------------------------------------------------------------------------


def few_scored(model, kept: float = 0.3) -> Batch:
    generator = torch.Generator().manual_seed(5)
    tokens, targets = (torch.randint(VOCAB, (3, 7), generator=generator) for _ in range(2))
    hidden = torch.rand(3, 7, generator=generator) < kept
    return Batch((tokens,), targets.masked_fill(~hidden, IGNORE))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("preset", ["bert", "small", "quick", "gpt2"])
def test_only_the_scored_rows_through_the_head_is_the_same_loss(preset, smoothing):
    """Value and gradients, to the last of float64 (1e-6 where a bias takes torch's way, in fp32)."""
    model = tiny(preset)
    batch, found = few_scored(model), []
    assert 0 < batch.scored < batch.targets.numel()
    for loss in (scored_token_loss, next_token_loss):
        model.zero_grad()
        value = loss(model, batch, batch.scored, smoothing)
        value.backward()
        found.append([value.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    fine = 1e-6 if preset == "bert" else 1e-12
    assert len(found[0]) == len(found[1]) > 10
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=fine, atol=fine)
    moved = batch._replace(targets=batch.targets.roll(1, 1))
    assert abs(scored_token_loss(model, moved, batch.scored, smoothing).item() - found[0][0]) > 1e-3


def test_the_head_sees_the_scored_rows_only():
    model = tiny("bert")
    batch = few_scored(model)
    x_ED, targets_E = scored_features(model, batch)
    assert x_ED.shape == (batch.scored, 16) and (targets_E != IGNORE).all()
    whole = model.features(*batch.inputs)
    assert torch.equal(x_ED, whole[batch.targets != IGNORE])
    assert torch.equal(targets_E, batch.targets[batch.targets != IGNORE])


def test_nothing_to_score_is_zero_with_zero_gradients():
    model = tiny("small")
    loss = scored_token_loss(model, few_scored(model, kept=0.0), 0)
    loss.backward()
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    assert loss == 0 and grads and not any(grad.any() for grad in grads)


def test_the_literal_rule_is_algorithm_12(text):
    """The masks of ours, the loss of the paper: equal to 1e-10 in float64, sequence by sequence."""
    task = masking(text, replace(RUN, batch=8, accumulate=1), rule="literal", share=0.3)
    mask, letters = formal.mask_token(drawn.N_V), drawn.N_V - 3  # the paper's last three tokens are special
    model = drawn.make(drawn.encoder())
    masks = replace(task.masks(0), mask=mask, ordinary=np.arange(letters))
    tokens = np.random.default_rng(0).integers(0, letters, (8, drawn.L_MAX))
    batch = task._hidden(tokens, masks, 4, 0)
    paper = [
        formal.ELoss(read, x, theta.encoder_of(model))
        for read, x in zip(batch.inputs[0].tolist(), tokens.tolist(), strict=True)
    ]
    ours = task.loss(model, batch, 1).item()
    assert 5 < batch.scored < tokens.size and abs(ours - sum(paper)) < 1e-10
    unlike = task.loss(model, task._hidden(tokens, masks, 5, 0), 1).item()
    assert abs(unlike - sum(paper)) > 1e-3


def test_a_step_of_ours_is_a_step_of_algorithm_12(text):
    """theta - eta grad, with the same masks: by our loss and torch, and by central differences."""
    task, eta = masking(text, rule="literal", share=0.4), 0.05
    model, mask = drawn.make(drawn.encoder(layers=1)), formal.mask_token(drawn.N_V)
    before = theta.encoder_of(model)
    batch = task._hidden(np.array([drawn.X]), replace(task.masks(1), mask=mask, ordinary=np.arange(10)), 0, 0)
    read = batch.inputs[0][0].tolist()
    assert 0 < batch.scored < len(read)
    task.loss(model, batch, 1).backward()
    torch.optim.SGD(model.parameters(), lr=eta).step()

    class Same:
        """Random numbers that make the paper's masks ours."""

        def __init__(self):
            self.numbers = iter([0.0 if token == mask else 1.0 for token in read])

        def random(self) -> float:
            return next(self.numbers)

    rng: np.random.Generator = Same()  # pyrefly: ignore[bad-assignment]
    after = formal.ETraining([drawn.X], before, N_epochs=1, eta=eta, p_mask=0.5, rng=rng)
    ours, gaps = theta.encoder_of(model), {"ours": [], "before": []}
    formal.map_arrays(lambda W, V: gaps["ours"].append(np.abs(W - V).max()) or W, ours, after)
    formal.map_arrays(lambda W, V: gaps["before"].append(np.abs(W - V).max()) or W, before, after)
    assert max(gaps["ours"]) < 1e-7 and max(gaps["before"]) > 1e-3


def test_the_loss_is_that_of_transformers():
    ours, theirs = bert_pair()
    batch = few_scored(ours)
    labels = batch.targets.masked_fill(batch.targets == IGNORE, -100)
    expected = theirs(input_ids=batch.inputs[0], labels=labels).loss.item()
    assert scored_token_loss(ours, batch, batch.scored).item() == pytest.approx(expected, abs=1e-6)
    assert scored_token_loss(ours, batch, batch.scored + 1).item() != pytest.approx(expected, abs=1e-3)


# The task ---------------------------------------------------------------------------------------------------


def test_parts_are_windows_of_the_text_with_the_hidden_tokens_as_targets(text):
    task = masking(text, replace(RUN, accumulate=1))
    (whole,), halves = task.parts(3), masking(text).parts(3)
    assert torch.equal(whole.inputs[0], torch.cat([part.inputs[0] for part in halves]))
    assert torch.equal(whole.targets, torch.cat([part.targets for part in halves]))
    tokens = task.batches.batch_at(3)
    asked = whole.targets != IGNORE
    assert whole.inputs[0].shape == tokens.shape == (4, 16)
    assert torch.equal(whole.targets[asked], torch.from_numpy(tokens)[asked])
    assert torch.equal(whole.inputs[0][~asked], torch.from_numpy(tokens)[~asked])
    assert asked.sum(1).tolist() == [2, 2, 2, 2] and len(task.example_ids(3)) == 4
    assert not torch.equal(whole.targets, task.parts(4)[0].targets)


def test_what_is_judged_is_the_cross_entropy_of_the_hidden_tokens_of_every_window(text):
    """Brute force: a forward pass for each window, the logits of all positions."""
    task = masking(text)
    model, masks = drawn_model(task), task.masks(0)
    tokens, nats, right = task.validation.tokens.astype(np.int64), [], []
    starts = [min(s, len(tokens) - 16) for s in range(0, len(tokens), 16)]
    for number, start in enumerate(starts):
        window = tokens[start : start + 16]
        read, chosen = masks.hide(window[None], 0, number)
        with torch.no_grad():
            logits = model(torch.from_numpy(read))[0][torch.from_numpy(chosen[0])]
        truth = torch.from_numpy(window[chosen[0]])
        nats += F.cross_entropy(logits, truth, reduction="none").tolist()
        right += (logits.argmax(-1) == truth).tolist()
    found = task.judge(model, nothing)
    assert found["validation"] == pytest.approx(sum(nats) / len(nats), rel=1e-5)
    assert found["validation_accuracy"] == pytest.approx(sum(right) / len(right))
    assert found["perplexity"] == pytest.approx(math.exp(found["validation"]))
    assert task.judge(model, nothing) == found
    assert masking(text, replace(RUN, seed=7)).judge(model, nothing) == found, "the same masks for every run"


def test_a_glance_looks_at_a_part(text, monkeypatch):
    task = masking(text)
    model = drawn_model(task)
    assert task.glance(model, nothing)["validation_sample"] == pytest.approx(
        task.judge(model, nothing)["validation"]
    )
    monkeypatch.setattr("cutaway.train.masked.GLANCE_TOKENS", 64)
    some = task.glance(model, nothing)
    assert math.isfinite(some["validation_sample"]) and 0 <= some["accuracy_sample"] <= 1
    assert some["validation_sample"] != pytest.approx(task.judge(model, nothing)["validation"], rel=1e-6)


def test_a_sample_shows_holes_and_guesses_beside_the_truth(text):
    task = masking(text)
    holes, *lines = task.sample(drawn_model(task)).split("\n")
    assert holes.count("[ ]") >= 1 and lines and all("%" in line for line in lines[-2:])
    assert task.shown()


@pytest.mark.parametrize(
    "model",
    [quick(layers=1, width=16, heads=2), spec.presets.vit(layers=1, width=16, heads=2)],
    ids=["sees the past", "images"],
)
def test_a_model_that_cannot_learn_from_it_is_refused(model, text):
    with pytest.raises(ConfigError, match=r"^data MaskedText trains a Single whose stack sees all"):
        masking(text).fitted(model)


def test_too_few_positions_and_too_little_text_are_refused(text, tmp_path):
    with pytest.raises(ConfigError, match=r"run\.length: 16 tokens .* positions for 15"):
        masking(text).fitted(small_bert(length=15))
    path = tmp_path / "short.txt"
    path.write_text("some words to learn from, and a few more of them")
    with pytest.raises(LimitError, match=r"the validation part has 6 tokens, fewer than run\.length, 16"):
        masking(path)


def test_the_digest_knows_the_text_and_the_rule(text):
    tasks = (masking(text), masking(text, share=0.2), masking(text, rule="literal"), masking(text))
    digests = [task.digest for task in tasks]
    assert digests[0] == digests[3] and len(set(digests)) == 3


def test_sentences_are_read_without_their_labels(tmp_path):
    labelled, plain = tmp_path / "labelled.txt", tmp_path / "plain.txt"
    labelled.write_text("0 a fine film\n1 a dull film\n")
    plain.write_text("0 stays\n")
    found = [document.text for document in read_source([f"labelled:{labelled}", str(plain)])]
    assert sorted(found) == ["0 stays\n", "a dull film", "a fine film"]
    assert len(read_source([f"labelled:{labelled}"])) == 2
    with pytest.raises(InputMissingError):
        read_source([])


def test_training_learns_and_an_interrupted_run_is_the_same_to_the_last_byte(text, tmp_path):
    data = spec.MaskedText((str(text),), tokenizer="bytes", split="tail")
    run = replace(RUN, batch=8, evaluate=5, optimizer=spec.AdamW(rate=1e-2))
    recipe = spec.Recipe("masked", small_bert(layers=2), data, run)
    whole = train(recipe, tmp_path / "whole")
    with pytest.raises(RunInterruptedError):
        train(recipe, tmp_path / "run", say=Stop(7))
    assert remains(train(recipe, tmp_path / "run", resume=True)) == remains(whole)
    lines = [line for line in remains(whole)["figures"] if "validation_accuracy" in line]
    assert len(lines) == 1 and lines[0]["validation"] < math.log(258)
    session = load(whole)
    assert mask_id(session.tokenizer) == session.tokenizer.vocab - 1 == 257
    (guesses,) = session.fill("12: 14[MASK] and", best=3)
    assert len(guesses) == 3 and guesses[0].chance >= guesses[1].chance > 0
    for wrong in ("no hole", ""):
        with pytest.raises(LimitError, match=r"no \[MASK\]"):
            session.fill(wrong)
    with pytest.raises(ConfigError, match="data Labelled"):
        session.classify("some text")
    with pytest.raises(ConfigError, match="predicts the next token"):
        session.loss("some text")
    with pytest.raises(ConfigError, match="sees all positions at once"):
        session.generate("some text")
