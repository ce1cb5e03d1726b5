"""Feed-forward layers against torch and against their formulas."""

import pytest
import torch
import torch.nn.functional as F

from cutaway import spec
from cutaway.nn import part
from cutaway.nn.feedforward import ACTIVATIONS
from cutaway.tap import Recorder

x = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
FORMULAS = {
    "relu": lambda x: x.clamp(min=0),
    "relu_squared": lambda x: x.clamp(min=0) ** 2,
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "gelu_tanh": lambda x: x / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
}


def test_every_activation_has_its_formula():
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations(act):
    torch.testing.assert_close(ACTIVATIONS[act](x), FORMULAS[act](x), rtol=0, atol=1e-12)
    others = [f for name, f in FORMULAS.items() if name != act]
    assert all((f(x) - ACTIVATIONS[act](x)).abs().max() > 1e-5 for f in others), "the two GELUs are two"


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_gradients_of_activations(act):
    own, by_formula = x.clone().requires_grad_(), x.clone().requires_grad_()
    scale = torch.arange(x.numel(), dtype=torch.float64).view_as(x)
    (ACTIVATIONS[act](own) * scale).sum().backward()
    (FORMULAS[act](by_formula) * scale).sum().backward()
    torch.testing.assert_close(own.grad, by_formula.grad, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradgradcheck(ACTIVATIONS[act], x.clone().requires_grad_())


@pytest.mark.parametrize("bias", [True, False])
def test_plain(bias):
    ffn, tap = part(spec.MLP(10, "gelu", bias), 6).double(), Recorder(["up", "hidden", "out"])
    out = ffn(x, tap)
    up = F.linear(x, ffn.up.weight, ffn.up.bias)
    torch.testing.assert_close(out, F.linear(F.gelu(up), ffn.down.weight, ffn.down.bias), rtol=0, atol=1e-12)
    assert torch.equal(tap.seen["up"], up) and torch.equal(tap.seen["hidden"], F.gelu(up))
    assert torch.equal(tap.seen["out"], out)
    assert (ffn.up.bias is None) == (ffn.down.bias is None) == (not bias)


def test_gated():
    ffn = part(spec.GatedMLP(10, "silu"), 6).double()
    want = ffn.down(F.silu(ffn.gate(x)) * ffn.up(x))
    torch.testing.assert_close(ffn(x), want, rtol=0, atol=1e-12)
    swapped = ffn.down(F.silu(ffn.up(x)) * ffn.gate(x))
    assert (ffn(x) - swapped).abs().max() > 1e-3


@pytest.mark.compiled
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_gelu_by_tanh_is_the_same_where_it_is_compiled(dtype):
    act = ACTIVATIONS["gelu_tanh"]
    numbers = torch.linspace(-8, 8, 401, dtype=torch.float64).to(dtype)
    want, found = (numbers.to(kind, copy=True).requires_grad_() for kind in (torch.float64, dtype))
    out = torch.compile(act, backend="aot_eager", fullgraph=True)(found)
    near = dict(rtol=2**-7, atol=2**-9) if dtype == torch.bfloat16 else dict(rtol=0, atol=1e-12)
    torch.testing.assert_close(out.double(), act(want), **near)
    (grad,) = torch.autograd.grad(out.sum(), [found])
    (wanted,) = torch.autograd.grad(act(want).sum(), [want])
    torch.testing.assert_close(grad.double(), wanted, **near)
