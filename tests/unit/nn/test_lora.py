"""Low-rank adapters: the algebra by hand, zero at the start, gradients where they belong and nowhere else."""

import pytest
import torch
from torch import nn

from cutaway.nn.lora import LowRank


def adapted(dropout: float = 0.0, bias: bool = True, drawn: bool = True) -> tuple[nn.Linear, LowRank]:
    """A linear layer, and one with an adapter of rank 2 and alpha 6 that holds the same weight."""
    generator = torch.Generator().manual_seed(0)
    inner = nn.Linear(5, 7, bias=bias).double()
    with torch.no_grad():
        for parameter in inner.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    made = LowRank(inner, 2, 6.0, dropout)
    if drawn:
        with torch.no_grad():
            for parameter in (made.lora_a, made.lora_b):
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return inner, made


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_w_plus_alpha_over_rank_b_a(bias):
    inner, made = adapted(bias=bias)
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole = inner.weight + 3.0 * made.lora_b @ made.lora_a
    wanted = x @ whole.T + (inner.bias if bias else 0.0)
    assert torch.allclose(made(x), wanted, rtol=0, atol=1e-12)
    assert torch.allclose(made.merged(), whole, rtol=0, atol=1e-12)
    assert (made(x) - inner(x)).abs().max() > 0.1  # the adapter counts


def test_with_b_zero_it_is_the_layer_to_the_last_bit():
    inner, made = adapted(drawn=False)
    with torch.no_grad():
        made.lora_a.normal_(generator=torch.Generator().manual_seed(2))
    x = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(made(x), inner(x)) and torch.equal(made.merged(), inner.weight)


def test_gradients_are_those_of_the_product_and_the_weight_has_none():
    inner, made = adapted()
    inner.requires_grad_(False)
    x = torch.randn(2, 3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    made(x).square().sum().backward()
    assert made.weight.grad is None and made.bias.grad is None
    a, b = (each.detach().clone().requires_grad_() for each in (made.lora_a, made.lora_b))
    (x @ (inner.weight + 3.0 * b @ a).T + inner.bias).square().sum().backward()
    assert torch.allclose(made.lora_a.grad, a.grad, rtol=1e-10) and torch.allclose(made.lora_b.grad, b.grad)


def test_dropout_is_of_what_the_adapter_reads_and_in_training_alone():
    inner, made = adapted(dropout=0.5)
    x = torch.ones(1, 2_000, 5, dtype=torch.float64)
    plain = adapted()[1]
    assert torch.equal(made.eval()(x), plain(x))
    torch.manual_seed(0)
    noisy = made.train()(x) - inner(x)
    assert len(noisy.unique(dim=1)[0]) > 8  # each place loses other numbers
    assert torch.allclose(noisy.mean(1), (plain(x) - inner(x)).mean(1), atol=0.5)


def test_it_is_merged_in_full_precision():
    made = adapted()[1].to(torch.bfloat16)
    fine = (made.weight.float() + 3.0 * made.lora_b.float() @ made.lora_a.float()).to(torch.bfloat16)
    assert made.merged().dtype == torch.bfloat16 and torch.equal(made.merged(), fine)
    assert "rank=2, alpha=6" in repr(made)
