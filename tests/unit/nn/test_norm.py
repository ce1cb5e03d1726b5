"""Norms against torch and against their formulas, fused and opened by an edit of a tap."""

import pytest
import torch
from torch import nn

from cutaway import spec
from cutaway.nn import part
from cutaway.tap import Recorder, Scale

x = torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3 + 1


def made(plan: spec.Norm) -> nn.Module:
    norm = part(plan, 8).double()
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_(0.5, 1.0, generator=torch.Generator().manual_seed(1))
    return norm


@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm_is_torchs(bias):
    norm, other = made(spec.LayerNorm(eps=1e-3, bias=bias)), nn.LayerNorm(8, eps=1e-3, bias=bias).double()
    other.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), other(x))


def test_rms_norm_is_torchs():
    norm, other = made(spec.RMSNorm(eps=1e-3)), nn.RMSNorm(8, eps=1e-3).double()
    other.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), other(x))


@pytest.mark.parametrize("plan", [spec.LayerNorm(), spec.RMSNorm(), spec.RMSNorm(offset=1.0)])
def test_a_gain_finer_than_what_it_scales_leaves_that_as_it_is(plan):
    norm, coarse = made(plan).float(), x.bfloat16().requires_grad_()
    fine = coarse.detach().float().requires_grad_()
    out, want = norm(coarse), norm(fine)
    opened = norm(coarse, Recorder(changes={"scale": Scale(torch.tensor(1.0))}))
    assert out.dtype == opened.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), want, rtol=2**-8, atol=1e-6)
    torch.testing.assert_close(opened.float(), want, rtol=2**-5, atol=2**-5)
    grads = [torch.autograd.grad(y.sum(), [a, *norm.parameters()]) for y, a in ((out, coarse), (want, fine))]
    for got, wanted in zip(*grads, strict=True):
        torch.testing.assert_close(got.float(), wanted, rtol=2**-5, atol=2**-5)


def test_offset_one_is_gemmas_gain():
    norm = made(spec.RMSNorm(eps=1e-3, offset=1.0))
    want = x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt() * (1 + norm.weight)
    torch.testing.assert_close(norm(x), want, rtol=0, atol=1e-12)
    fresh = part(spec.RMSNorm(offset=1.0), 8)
    assert torch.equal(fresh.weight, torch.zeros(8)), "the gain starts at 1, so the weight at 0"


@pytest.mark.parametrize("plan", [spec.LayerNorm(), spec.LayerNorm(bias=False), spec.RMSNorm(offset=1.0)])
def test_taps_are_the_parts_of_the_result_and_an_edit_of_them_reaches_it(plan):
    norm, tap = made(plan), Recorder(["scale", "normalized", "out"])
    plain = norm(x)
    assert torch.equal(norm(x, tap), plain), "looking changes nothing"
    centred = x - x.mean(-1, keepdim=True) if isinstance(plan, spec.LayerNorm) else x
    torch.testing.assert_close(tap.seen["normalized"] * tap.seen["scale"], centred, rtol=0, atol=1e-12)
    one = Recorder(changes={"scale": Scale(torch.tensor(1.0))})
    torch.testing.assert_close(norm(x, one), plain, rtol=0, atol=1e-12)
    two = Recorder(changes={"scale": Scale(torch.tensor(2.0))})
    shift = norm.bias if getattr(norm, "bias", None) is not None else 0.0
    torch.testing.assert_close(norm(x, two) - shift, (plain - shift) / 2, rtol=0, atol=1e-12)
