"""Muon against torch.optim.Muon, matrix by matrix."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from cutaway.train import muon
from cutaway.train.muon import Muon, orthogonalise

SHAPES = ((16, 16), (16, 16), (48, 16), (16, 48), (48, 16), (8, 24))


def matrices() -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(shape)) for shape in SHAPES]


def stepped(
    kind: Callable[..., torch.optim.Optimizer], steps: int = 4
) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    own = matrices()
    optimizer = kind(own, lr=0.1, momentum=0.9, weight_decay=0.2)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for matrix in own:
            matrix.grad = torch.randn(matrix.shape, generator=generator)
        optimizer.step()
    return own, optimizer


def gap(ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(ours, theirs, strict=True))


def test_the_step_is_torchs_within_bf16():
    (ours, own), (theirs, other) = stepped(Muon), stepped(torch.optim.Muon)
    assert gap(ours, matrices()) > 0.1
    assert gap(ours, theirs) < 0.02  # four updates of about 0.1 to 0.17 a number's root mean square, in bf16
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(own.state[a]["momentum_buffer"], other.state[b]["momentum_buffer"])


def test_in_fp32_the_step_is_the_bf16_one_without_its_rounding():
    (ours, own), (theirs, _) = stepped(partial(Muon, dtype=torch.float32)), stepped(torch.optim.Muon)
    assert 0 < gap(ours, theirs) < 0.02
    assert {own.state[a]["momentum_buffer"].dtype for a in ours} == {torch.float32}


@pytest.mark.parametrize("wrong", [{"COEFFICIENTS": (3.4445, -4.7750, 1.5)}, {"ITERATIONS": 2}])
def test_another_iteration_would_be_noticed(monkeypatch, wrong):
    theirs = stepped(torch.optim.Muon)[0]
    for name, value in wrong.items():
        monkeypatch.setattr(muon, name, value)
    assert gap(stepped(Muon)[0], theirs) > 0.02


def test_singular_values_end_near_one():
    x_ELM = torch.randn(3, 20, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    values = torch.linalg.svdvals(orthogonalise(x_ELM))
    assert float(values.min()) > 0.5 and float(values.max()) < 1.5
    alone = torch.cat([orthogonalise(matrix[None]) for matrix in x_ELM])
    torch.testing.assert_close(orthogonalise(x_ELM), alone, rtol=0, atol=1e-12)


def test_a_matrix_without_a_gradient_stays():
    own = matrices()
    optimizer = Muon(own, lr=0.1)
    before = copy.deepcopy(own)
    own[1].grad = torch.ones_like(own[1])
    optimizer.step()
    assert [torch.equal(a, b) for a, b in zip(own, before, strict=True)] == [
        True,
        False,
        True,
        True,
        True,
        True,
    ]


def test_a_kernel_steps_as_the_matrix_of_its_unfolded_input():
    torch.manual_seed(0)
    kernel, flat = nn.Parameter(torch.randn(12, 4, 3)), nn.Parameter(torch.empty(12, 12))
    flat.data = kernel.data.flatten(1).clone()
    kernel.grad = torch.randn(12, 4, 3)
    flat.grad = kernel.grad.flatten(1).clone()
    Muon([kernel], lr=0.1).step()
    Muon([flat], lr=0.1).step()
    assert torch.equal(kernel.detach().flatten(1), flat.detach())
