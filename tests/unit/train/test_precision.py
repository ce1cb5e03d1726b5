"""fp32 masters and a working copy in bf16: what is stepped, what computes, and how gradients get there."""

import pytest
import torch

from cutaway.models import build
from cutaway.spec.presets import gpt2, quick
from cutaway.train.precision import Working

PLAN = quick(layers=1, width=16, heads=2, vocab=11)


def test_in_fp32_master_and_working_copy_are_one():
    model = build(PLAN)
    assert Working(model, torch.float32).model is model


def test_in_bf16_the_masters_stay_fp32_under_their_own_names():
    master = build(PLAN)
    names = [name for name, _ in master.named_parameters()]
    working = Working(master, torch.bfloat16)
    assert [name for name, _ in working.master.named_parameters()] == names
    assert {p.dtype for p in working.master.parameters()} == {torch.float32}
    for name, parameter in working.model.named_parameters():
        assert parameter.dtype == (torch.float32 if "norm" in name else torch.bfloat16), name
    assert not {id(p) for p in working.model.parameters()} & {id(p) for p in working.master.parameters()}


def test_refresh_derives_the_copy_from_the_masters():
    working = Working(build(PLAN), torch.bfloat16)
    with torch.no_grad():
        for master in working.master.parameters():
            master.add_(0.123)
    working.refresh()
    for master, copy in zip(working.master.parameters(), working.model.parameters(), strict=True):
        assert torch.equal(master.to(copy.dtype), copy)


@pytest.mark.parametrize("preset", [quick, gpt2])
def test_in_bf16_a_gain_moves_by_less_than_the_steps_of_bf16(preset):
    working = Working(build(preset(layers=1, width=16, heads=2, vocab=11)), torch.bfloat16)
    tokens = torch.arange(11)[None]
    before = working.model(tokens)
    with torch.no_grad():
        working.model.get_parameter("final_norm.weight")[:] = 1.003  # 1 in bf16
    after = working.model(tokens)
    assert before.dtype == after.dtype == torch.bfloat16
    assert not torch.equal(before, after)


def test_in_bf16_a_norm_that_stands_still_keeps_its_own_numbers():
    master = build(PLAN)
    with torch.no_grad():
        master.get_parameter("final_norm.weight").fill_(1.003)
    for parameter in master.parameters():
        parameter.requires_grad_(False)
    working = Working(master, torch.bfloat16)
    assert bool((working.model.get_parameter("final_norm.weight") == 1.003).all())


def test_gradients_are_summed_in_fp32():
    """256 + 1 is 256 in bf16: a sum that was kept there would lose every part but the first."""
    working = Working(build(PLAN), torch.bfloat16)
    for size in (256.0, 1.0, 1.0):
        for copy in working.model.parameters():
            copy.grad = torch.full_like(copy, size)
        working.collect()
    assert torch.tensor(256.0, dtype=torch.bfloat16) + 1 == 256
    assert all(bool((p.grad == 258).all()) for p in working.master.parameters())
    assert all(p.grad is None for p in working.model.parameters())
    working.forget()
    assert all(p.grad is None for p in working.master.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("most", [0.5, 1e9, None])
def test_clipping_scales_the_masters_gradients_and_tells_the_norm_before(dtype, most):
    working = Working(build(PLAN), dtype)
    for parameter in working.model.parameters():
        parameter.grad = torch.full_like(parameter, 0.25)
    working.collect()
    numbers = sum(p.numel() for p in working.master.parameters())
    norm = working.clip(most)
    assert norm.item() == pytest.approx(0.25 * numbers**0.5, rel=1e-6)
    after = torch.cat([p.grad.flatten() for p in working.master.parameters()]).norm()
    assert after.item() == pytest.approx(min(most or 1e9, norm.item()), rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_norm_that_is_not_finite_clips_nothing(bad):
    """Scaled by it every gradient would be zero or not a number, and the bad one not to be found."""
    working = Working(build(PLAN), torch.float32)
    for parameter in working.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    first = next(working.model.parameters())
    first.grad[0, 0] = bad
    assert not working.clip(1.0).isfinite()
    gradients = torch.cat([p.grad.flatten() for p in working.master.parameters()])
    assert (gradients == 1).sum() == gradients.numel() - 1
