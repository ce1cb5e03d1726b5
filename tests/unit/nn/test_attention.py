"""Attention: every mask against a plain softmax, fused against open, grouped heads against repeated ones.

B batch (or masks)   L query position   M memory position   H query head   G key/value head   K head width
"""

import itertools

import pytest
import torch
from torch import Tensor

from cutaway import spec
from cutaway.errors import ConfigError, TapError
from cutaway.nn import attend as heart
from cutaway.nn import part
from cutaway.nn.attend import attend_fused, attend_openly
from cutaway.nn.mask import Mask, settle
from cutaway.tap import Recorder, Scale

F64 = torch.float64


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def plain(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float) -> Tensor:
    """Softmax by its formula, over the allowed places only; no place, no weight."""
    weights = (q @ k.mT * scale).exp() * allowed
    return weights / weights.sum(-1, keepdim=True).clamp(min=1e-300) @ v


def every_mask(side: int) -> Tensor:
    """All masks of side x side, (masks, 1, side, side)."""
    bits = torch.tensor(list(itertools.product((False, True), repeat=side * side)))
    return bits.view(-1, 1, side, side)


@pytest.mark.parametrize("attend", [attend_fused, attend_openly])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("side", [3, 4])
def test_every_mask(attend, biased, side):
    allowed = every_mask(side)
    B = allowed.size(0)
    q, k, v = (drawn(B, 1, side, 2, seed=s).requires_grad_() for s in range(3))
    bias = drawn(1, side, side, seed=4) if biased else None
    dead = ~allowed.any(-1, keepdim=True)
    got = attend(q, k, v, Mask(False, allowed, bias, dead), 0.7)
    weight = allowed * (1 if bias is None else bias.exp())
    want = plain(q, k, v, weight, 0.7)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    assert torch.equal(got[dead.expand_as(got)], torch.zeros(int(dead.sum()) * 2, dtype=F64))
    pull = drawn(*got.shape, seed=5)
    ours = torch.autograd.grad(got, (q, k, v), pull)
    theirs = torch.autograd.grad(want, (q, k, v), pull)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    assert torch.equal(ours[0][dead.expand_as(q)], torch.zeros(int(dead.sum()) * 2, dtype=F64))
    other = Mask(False, ~allowed, bias, allowed.all(-1, keepdim=True))
    assert (attend(q, k, v, other, 0.7) - want).abs().max() > 1


@pytest.mark.parametrize("pairs", [0, heart.PAIRS])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("queries", [1, 5])
def test_bf16_in_one_kernel_or_in_the_open(queries, groups, pairs, monkeypatch):
    monkeypatch.setattr(heart, "PAIRS", pairs)
    monkeypatch.setattr(heart, "KEYS", 0 if pairs else 1 << 30)
    monkeypatch.setattr(heart, "HAS_BF16", True)
    q = drawn(3, 6, queries, 16).bfloat16().requires_grad_()
    k, v = (drawn(3, groups, 9, 16, seed=s).bfloat16().requires_grad_() for s in (1, 2))
    assert heart.open_is_faster(q, k) == (pairs > 0)
    allowed = torch.arange(9) < torch.tensor([9, 4, 0])[:, None, None, None]
    bias = drawn(6, queries, 9, seed=4)
    mask = Mask(False, allowed, bias, ~allowed.any(-1, keepdim=True).expand(3, 1, queries, 1))
    got = heart.attend(q, k, v, mask, 0.25)
    assert got.dtype == torch.bfloat16 and not got[2].any()
    looked = Recorder(["scores", "pattern"])
    assert torch.equal(heart.attend(q, k, v, mask, 0.25, looked), got), "looking changes nothing"
    assert set(looked.seen) == {"scores", "pattern"} and not looked.seen["pattern"][2].any()
    k64, v64 = (x.double().repeat_interleave(6 // groups, 1) for x in (k, v))
    want = plain(q.double(), k64, v64, allowed * bias.exp(), 0.25)
    torch.testing.assert_close(got.double(), want, rtol=0, atol=0.05)
    other = plain(q.double(), k64.roll(1, 1), v64.roll(1, 1), allowed * bias.exp(), 0.25)
    assert groups == 1 or (got - other).abs().max() > 0.5, "whose keys they are matters"
    pull = drawn(*got.shape, seed=3)
    ours = torch.autograd.grad(got, (q, k, v), pull.bfloat16())
    theirs = torch.autograd.grad(want, (q, k, v), pull)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.08)
        assert b.abs().max() > 0.5 and not a[2].any()


def test_a_processor_without_bf16_keeps_its_kernel_but_for_one_query_at_many_keys(monkeypatch):
    monkeypatch.setattr(heart, "HAS_BF16", False)
    k = drawn(1, 1, heart.KEYS, 1).bfloat16()
    assert not heart.open_is_faster(k[:, :, :9], k[:, :, :9])
    assert heart.open_is_faster(k[:, :, :1], k) and not heart.open_is_faster(k[:, :, :1], k[:, :, 1:])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_without_a_position_stay_empty(dtype):
    q, k = drawn(2, 6, 0, 4).to(dtype), drawn(2, 2, 0, 4).to(dtype)
    assert heart.attend(q, k, k, Mask(), 0.5).shape == (2, 6, 0, 4)


@pytest.mark.parametrize("sees", ["past", "all"])
@pytest.mark.parametrize("window", [None, 1, 2, 3, 99])
@pytest.mark.parametrize(("L", "M"), [(5, 5), (2, 5), (1, 5)])
@pytest.mark.parametrize("padded", [False, True])
def test_settled_masks_say_who_sees_whom(sees, window, L, M, padded):
    padding = torch.tensor([[True] * M, [False, True] + [True] * (M - 3) + [False]]) if padded else None
    mask = settle(sees, L, M, window=window, padding_BM=padding)
    for row, place, m in itertools.product(range(2 if padded else 1), range(L), range(M)):
        at = M - L + place
        may = (m <= at or sees == "all") and (window is None or abs(at - m) < window)
        may = may and (not padded or bool(padding[row, m]))
        if mask.causal:
            assert L == M and may == (m <= place)
        else:
            allowed = torch.ones(1, 1, L, M).bool() if mask.allowed is None else mask.allowed
            assert bool(torch.broadcast_to(allowed, (2, 1, L, M))[row, 0, place, m]) == may
    with pytest.raises(TapError, match="3 queries cannot be the last of 2"):
        settle("past", 3, 2)


@pytest.mark.parametrize("kv_heads", [1, 2])
@pytest.mark.parametrize("causal", [True, False])
def test_grouped_heads_are_repeated_heads(kv_heads, causal):
    mask, x = Mask(causal=causal), drawn(2, 5, 16)
    grouped = part(spec.Attention(4, kv_heads, bias="qkvo", rotary=None), 16).double()
    whole = part(spec.Attention(4, bias="qkvo"), 16).double()
    state = grouped.state_dict()
    for name in ("key.weight", "key.bias", "value.weight", "value.bias"):
        by_head = state[name].unflatten(0, (kv_heads, 4))
        state[name] = by_head.repeat_interleave(4 // kv_heads, dim=0).flatten(0, 1)
    whole.load_state_dict(state)
    torch.testing.assert_close(grouped(x, mask=mask), whole(x, mask=mask), rtol=0, atol=1e-12)
    state["key.weight"] = state["key.weight"].roll(4, 0)
    whole.load_state_dict(state)
    if kv_heads > 1:
        assert (grouped(x, mask=mask) - whole(x, mask=mask)).abs().max() > 1e-6


@pytest.mark.parametrize("cap", [None, 0.5])
@pytest.mark.parametrize("window", [None, 2])
@pytest.mark.parametrize("padded", [False, True])
def test_fused_is_open(cap, window, padded):
    attention = part(spec.Attention(4, 2, cap=cap), 16).double()
    padding = torch.tensor([[True] * 6, [False] * 2 + [True] * 4]) if padded else None
    mask = settle("past", 6, 6, window=window, padding_BM=padding)
    x = drawn(2, 6, 16) * 3
    seen = Recorder(["scores", "pattern", "mix"])
    out = attention(x, mask=mask, tap=seen)
    assert torch.equal(out, attention(x, mask=mask)), "looking changes nothing"
    opened = attention(x, mask=mask, tap=Recorder(changes={"pattern": Scale(torch.tensor(1.0))}))
    torch.testing.assert_close(opened, out, rtol=0, atol=1e-12)
    pattern_BHLM = seen.seen["pattern"]
    values = attention.value(x).unflatten(-1, (2, 4)).transpose(1, 2).repeat_interleave(2, dim=1)
    torch.testing.assert_close(pattern_BHLM @ values, seen.seen["mix"], rtol=0, atol=1e-12)
    dead = 0 if not padded else 2 * 4
    assert int((pattern_BHLM.sum(-1) < 0.5).sum()) == dead
    if cap is not None:
        finite = seen.seen["scores"][seen.seen["scores"].isfinite()]
        assert finite.abs().max() <= cap
    other = attention(x, mask=mask, tap=Recorder(changes={"pattern": Scale(torch.tensor(1.1))}))
    assert (other - out).abs().max() > 1e-4


def test_bias_names_the_projections_that_have_one():
    attention = part(spec.Attention(2, bias="qo"), 8)
    found = {name for name, child in attention.named_children() if getattr(child, "bias", None) is not None}
    assert found == {"query", "out"}


@pytest.mark.parametrize("plan", [spec.Attention(3), spec.Attention(4, 3), spec.Attention(4, bias="qx")])
def test_what_does_not_fit_is_refused(plan):
    with pytest.raises(ConfigError, match="attention: "):
        part(plan, 16)


def test_head_width_is_a_number_of_its_own():
    attention = part(spec.Attention(3, head_width=5, scale=1.0), 16)
    assert attention.query.weight.shape == (15, 16) and attention.out.weight.shape == (16, 15)
    assert attention.scale == 1.0
    assert part(spec.Attention(4), 16).scale == 0.5
