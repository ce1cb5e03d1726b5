"""The blocked cross-entropy against torch's, value and gradients, for every pattern of unscored targets."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from cutaway import spec
from cutaway.models import build
from cutaway.spec.presets import gpt2, small, vaswani
from cutaway.train import loss as loss_module
from cutaway.train.loss import IGNORE, Batch, LinearCrossEntropy, features_of, next_token_loss, token_losses

E, D, V = 5, 3, 7
PATTERNS = list(itertools.product([True, False], repeat=E))


def problem(dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    x_ED, weight_VD = (torch.randn(n, D, generator=generator, dtype=dtype).requires_grad_() for n in (E, V))
    return x_ED, weight_VD, torch.randint(V, (E,), generator=generator)


def both(targets, total, scale=1.0):
    """Value and gradients of ours and of torch's."""
    found = []
    for ours in (True, False):
        x, weight, _ = problem()
        if ours:
            value = LinearCrossEntropy.apply(x, weight, targets, total)
        else:
            value = F.cross_entropy(x @ weight.mT, targets, ignore_index=IGNORE, reduction="sum") / total
        (scale * value).backward()
        found.append((value.detach(), x.grad, weight.grad))
    return found


@pytest.mark.parametrize("rows", [1, 2, 100], ids="rows{}".format)
def test_equals_torch_for_every_pattern_of_unscored_targets(rows, monkeypatch):
    monkeypatch.setattr(loss_module, "BLOCK_NUMBERS", rows * V)
    monkeypatch.setattr(loss_module, "ROWS", rows)
    monkeypatch.setattr(loss_module, "COLUMNS", 2 * rows)
    _, _, targets = problem()
    for pattern in PATTERNS:
        some = targets.masked_fill(~torch.tensor(pattern), IGNORE)
        ours, theirs = both(some, total=max(1, sum(pattern)), scale=1.7)
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sure", [0.0, 4.0, 7.0, 9.0])
def test_in_bf16_a_target_that_is_nearly_certain_keeps_its_loss_and_its_gradient(sure, smoothing):
    """A probability of 0.998 and more is 1 in bf16: what is left of it must not be found by subtraction."""
    generator = torch.Generator().manual_seed(2)
    rows, vocab = 300, 64
    logits = torch.randn(rows, vocab, generator=generator).bfloat16()
    targets = torch.randint(vocab, (rows,), generator=generator)
    logits[torch.arange(rows), targets] += sure
    coarse = logits.clone().requires_grad_()
    fine = logits.double().requires_grad_()
    value = LinearCrossEntropy.apply(coarse, torch.eye(vocab).bfloat16(), targets, rows, smoothing)
    want = F.cross_entropy(fine, targets, label_smoothing=smoothing)
    value.backward()
    want.backward()
    assert value.dtype == torch.float32 and coarse.grad is not None and fine.grad is not None
    torch.testing.assert_close(value.double(), want, rtol=2e-3, atol=1e-6)
    assert (coarse.grad.double() - fine.grad).norm() < 2**-7 * fine.grad.norm()


def test_a_planted_mistake_is_found(monkeypatch):
    _, _, targets = problem()
    ours, theirs = both(targets.roll(1), total=E)[0], both(targets, total=E)[1]
    assert not torch.allclose(ours[2], theirs[2], rtol=1e-6, atol=1e-6)


def test_nothing_to_score_is_zero_with_zero_gradients():
    (value, *gradients), _ = both(torch.full((E,), IGNORE), total=1)
    assert value == 0 and all(not gradient.any() for gradient in gradients)


def test_gradients_are_those_of_finite_differences():
    x, weight, targets = problem()
    targets[2] = IGNORE
    assert gradcheck(lambda x, weight: LinearCrossEntropy.apply(x, weight, targets, 3), (x, weight))


def test_gradcheck_would_notice(monkeypatch):
    x, weight, targets = problem()
    right = LinearCrossEntropy.backward
    monkeypatch.setattr(
        LinearCrossEntropy,
        "backward",
        staticmethod(lambda ctx, scale: tuple(g if g is None else 1.01 * g for g in right(ctx, scale))),
    )
    with pytest.raises(RuntimeError, match="mismatch"):
        gradcheck(lambda x, weight: LinearCrossEntropy.apply(x, weight, targets, 3), (x, weight))


def test_only_the_gradients_asked_for_are_made():
    x, weight, targets = problem()
    LinearCrossEntropy.apply(x, weight.detach(), targets, 1).backward()
    assert weight.grad is None and x.grad is not None


MODELS = {
    "untied": spec.presets.quick(layers=1, width=16, heads=2, vocab=11),
    "tied": small(layers=1, width=16, heads=2, kv_heads=1, vocab=11),
    "biased": spec.presets.bert(layers=1, width=16, heads=2, vocab=11, length=8),
    "scaled": spec.presets.t5(layers=1, width=16, heads=2, hidden=32, vocab=11),
    "paired": vaswani(layers=1, width=16, heads=2, hidden=32, vocab=11, dropout=0.0),
    "learned": gpt2(layers=1, width=16, heads=2, vocab=11, length=8),
}


def batch_for(model):
    generator = torch.Generator().manual_seed(2)
    draw = lambda: torch.randint(11, (3, 6), generator=generator)  # noqa: E731
    inputs = (draw(), draw()) if isinstance(model.plan, spec.Paired) else (draw(),)
    targets = draw()
    targets[0, 2:] = IGNORE
    return Batch(inputs, targets)


@pytest.mark.parametrize("name", MODELS)
def test_a_models_loss_is_the_cross_entropy_of_its_logits(name):
    model = build(MODELS[name], seed=3).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    batch = batch_for(model)
    logits = model(*batch.inputs)
    mean = F.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=IGNORE)
    torch.testing.assert_close(next_token_loss(model, batch, batch.scored), mean, rtol=1e-10, atol=1e-10)
    losses = token_losses(model, batch)
    assert losses.shape == batch.targets.shape
    assert not losses[batch.targets == IGNORE].any()
    torch.testing.assert_close(losses.sum() / batch.scored, mean, rtol=1e-10, atol=1e-10)


def test_padding_reaches_the_model():
    model = build(MODELS["paired"], seed=3).double().eval()
    source, target = torch.randint(11, (2, 5)), torch.randint(11, (2, 4))
    real = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    batch = Batch((source, target), target, (real, torch.ones(2, 4, dtype=torch.bool)))
    changed = source.clone()
    changed[1, 3:] = 1 - changed[1, 3:].clamp(max=1)
    other = batch._replace(inputs=(changed, target))
    torch.testing.assert_close(features_of(model, batch), features_of(model, other), rtol=0, atol=1e-12)
    naked = batch._replace(paddings=())
    assert not torch.allclose(features_of(model, batch), features_of(model, naked))
