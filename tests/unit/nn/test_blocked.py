"""Attention in blocks of queries against torch's, in float64 and in bf16, for lengths around a block's."""

import pytest
import torch
import torch.nn.functional as F

from cutaway.nn.blocked import attend_blocked, causal_by_blocks, unpack

SCALE = 0.3


def heads(length: int, seed: int) -> torch.Tensor:
    """(2, 3, length, 8) as attention makes them: heads beside each other in memory."""
    return torch.randn(2, length, 3, 8, generator=torch.Generator().manual_seed(seed)).transpose(1, 2)


@pytest.mark.parametrize("length", [1, 5, 127, 128, 129, 300])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_mix_pattern_and_gradients_are_those_of_torchs_attention(length, dtype):
    ours = [heads(length, seed).to(dtype).requires_grad_() for seed in range(3)]
    theirs = [x.detach().double().requires_grad_() for x in ours]
    mix, packed = attend_blocked(*ours, SCALE)
    want = F.scaled_dot_product_attention(*theirs, is_causal=True, scale=SCALE)
    (mix * mix).sum().backward()
    (want * want).sum().backward()
    near = dict(rtol=1e-10, atol=1e-10) if dtype == torch.float64 else dict(rtol=2**-5, atol=2**-4)
    torch.testing.assert_close(mix.double(), want, **near)
    for one, other in zip(ours, theirs, strict=True):
        assert one.grad is not None and other.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, **near)
    future = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores = (theirs[0] * SCALE @ theirs[1].mT).masked_fill(future, float("-inf"))
    torch.testing.assert_close(unpack(packed, length).double(), scores.softmax(-1), **near)


@pytest.mark.parametrize("length", [5, 129])
def test_the_pattern_is_kept_where_it_is_needed_and_changes_no_bit_of_the_mix(length):
    ours = [heads(length, seed).bfloat16() for seed in range(3)]
    mix, packed = attend_blocked(*ours, SCALE)
    with torch.no_grad():
        kept_mix, kept = attend_blocked(*ours, SCALE, keep=True)
        plain_mix, nothing = attend_blocked(*ours, SCALE)
    assert nothing.numel() == 0
    assert torch.equal(kept, packed)
    assert torch.equal(mix, kept_mix) and torch.equal(mix, plain_mix)


@pytest.mark.parametrize(("keep", "learns"), [(True, True), (True, False), (False, False)])
def test_the_compiler_is_told_the_truth_about_the_operators(keep, learns):
    ours = [heads(130, seed).double().requires_grad_(learns) for seed in range(3)]
    found = torch.library.opcheck(causal_by_blocks, (*ours, SCALE, keep))
    assert set(found.values()) == {"SUCCESS"}
