"""The heart of attention: Algorithm 4 of Phuong & Hutter (2022), fused and open.

B batch   L query position   M memory position   H query head   G key/value head   K head width
E width of a value, K in a transformer
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.nn.blocked import attend_blocked, unpack
from cutaway.nn.dropout import drop
from cutaway.nn.linear import HAS_BF16
from cutaway.nn.mask import Mask, openly
from cutaway.tap import Tap, off

# up to where products and a softmax beat a processor's fused kernel (LOG.md)
SHORT = 64  # memory positions, in fp32
PAIRS = 1 << 16  # of a query and a memory position, in bf16; beyond they would still, for more memory
KEYS = 1 << 11  # of all rows and heads, from which on they do so for a single query in bf16


def attend(
    q_BHLK: Tensor, k_BGMK: Tensor, v_BGME: Tensor, mask: Mask, scale: float, tap: Tap = off
) -> Tensor:
    """The fastest way on this machine -> (B, H, L, E).

    Reading `scores` or `pattern` changes no bit of the result: beside a kernel they are computed once more.
    """
    if mask.causal and q_BHLK.dtype == torch.bfloat16 and q_BHLK.device.type == "cpu":
        heads, keep = q_BHLK.size(1), tap.wants("pattern")
        mix_BHLK, packed = attend_blocked(q_BHLK, share(k_BGMK, heads), share(v_BGME, heads), scale, keep)
        if tap.wants("scores"):
            tap("scores", score(q_BHLK, k_BGMK, mask, scale, None))
        if keep:
            tap("pattern", unpack(packed, q_BHLK.size(2)))
        return mix_BHLK
    if open_is_faster(q_BHLK, k_BGMK):
        return attend_openly(q_BHLK, k_BGMK, v_BGME, mask, scale, tap=tap)
    if tap.wants("scores", "pattern"):
        scores_BHLM = tap("scores", score(q_BHLK, k_BGMK, mask, scale, None))
        if tap.wants("pattern"):
            tap("pattern", normalise(scores_BHLM, mask))
    return attend_fused(q_BHLK, k_BGMK, v_BGME, mask, scale)


def open_is_faster(q_BHLK: Tensor, k_BGMK: Tensor) -> bool:
    """Whether products and a softmax beat torch's fused kernel here."""
    if q_BHLK.device.type != "cpu":
        return False
    if q_BHLK.dtype == torch.bfloat16:
        rows, heads, queries = q_BHLK.shape[:3]
        memory = k_BGMK.size(2)
        if queries == 1:
            return rows * heads * memory >= KEYS
        return HAS_BF16 and queries * memory <= PAIRS
    return q_BHLK.dtype == torch.float32 and k_BGMK.size(2) <= SHORT


def attend_fused(q_BHLK: Tensor, k_BGMK: Tensor, v_BGME: Tensor, mask: Mask, scale: float) -> Tensor:
    """softmax(q k^T scale + bias) v in one kernel -> (B, H, L, E)."""
    allowed = mask.allowed
    if mask.bias is not None:
        bias = mask.bias.to(q_BHLK.dtype)
        if bias.dim() == 3:
            bias = bias[None]
        allowed = bias if allowed is None else bias.masked_fill(~allowed, float("-inf"))
    mix_BHLE = F.scaled_dot_product_attention(
        q_BHLK,
        k_BGMK,
        v_BGME,
        attn_mask=allowed,
        is_causal=mask.causal,
        scale=scale,
        enable_gqa=q_BHLK.size(1) != k_BGMK.size(1),
    )
    return mix_BHLE if mask.dead is None else mix_BHLE.masked_fill(mask.dead, 0.0)


def attend_openly(
    q_BHLK: Tensor,
    k_BGMK: Tensor,
    v_BGME: Tensor,
    mask: Mask,
    scale: float,
    *,
    cap: float | None = None,
    dropout: float = 0.0,
    tap: Tap = off,
) -> Tensor:
    """The same in the open: taps `scores` and `pattern` (B, H, L, M), a soft cap, dropout of the pattern."""
    scores_BHLM = tap("scores", score(q_BHLK, k_BGMK, mask, scale, cap))
    pattern_BHLM = tap("pattern", normalise(scores_BHLM, mask))
    if dropout:
        pattern_BHLM = drop(pattern_BHLM, dropout, training=True)
    return by_group(pattern_BHLM, v_BGME)


def score(q_BHLK: Tensor, k_BGMK: Tensor, mask: Mask, scale: float, cap: float | None) -> Tensor:
    """q k^T scale, capped, plus bias; minus infinity where a query may not look."""
    scores_BHLM = by_group(q_BHLK * scale, k_BGMK.mT)
    if cap is not None:
        scores_BHLM = (scores_BHLM / cap).tanh() * cap
    if mask.bias is not None:
        scores_BHLM = scores_BHLM + mask.bias.to(scores_BHLM.dtype)
    allowed = openly(mask, q_BHLK.size(2), k_BGMK.size(2), q_BHLK.device)
    return scores_BHLM if allowed is None else scores_BHLM + closing(allowed, scores_BHLM.dtype)


def closing(allowed: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a query may look, minus infinity elsewhere: a sum is four times as fast as filling."""
    return torch.where(allowed, 0.0, -math.inf).to(dtype)


def normalise(scores_BHLM: Tensor, mask: Mask) -> Tensor:
    """Softmax over memory; a row that may look nowhere is exactly zero, and so is its gradient."""
    if mask.dead is None:
        return scores_BHLM.softmax(dim=-1)
    bounded = scores_BHLM.clamp(min=torch.finfo(scores_BHLM.dtype).min)  # a dead row would be not a number
    return bounded.softmax(dim=-1) * ~mask.dead


def by_group(x_BHLK: Tensor, y_BGKM: Tensor) -> Tensor:
    """The product of each query head with its key/value head's matrix, none copied -> (B, H, L, M)."""
    groups, length = y_BGKM.size(1), x_BHLK.size(2)
    if groups == x_BHLK.size(1):
        return x_BHLK @ y_BGKM
    x_BGEK = x_BHLK.unflatten(1, (groups, -1)).flatten(2, 3)
    return (x_BGEK @ y_BGKM).unflatten(2, (x_BHLK.size(1) // groups, length)).flatten(1, 2)


def share(x_BGMK: Tensor, heads: int) -> Tensor:
    """Give each query head its key/value head: (B, G, M, K) -> (B, H, M, K)."""
    groups = x_BGMK.size(1)
    return x_BGMK if groups == heads else torch.repeat_interleave(x_BGMK, heads // groups, dim=1)
