"""Causal attention in blocks of queries, each against the keys up to its end: Algorithm 4 by plain products.

For bf16 on a CPU torch's fused kernel is the slower one (LOG.md). This leaves out most of the future, and
hands out scores and pattern as it passes them.

B batch   L position   H head   K head width   l queries of a block   m keys up to the block's end
"""

import torch
from torch import Tensor

from cutaway.tap import Tap, off

QUERIES = 128  # rows of a block


def attend_blocked(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float, tap: Tap = off) -> Tensor:
    """softmax(q k^T scale) v over the past, (B, H, L, K) -> (B, H, L, K). Taps scores, pattern."""
    if not tap.wants("scores", "pattern"):
        return BlockedCausal.apply(q_BHLK, k_BHLK, v_BHLK, scale, False)[0]
    mix_BHLK, scores_BHLL, pattern_BHLL = BlockedCausal.apply(q_BHLK, k_BHLK, v_BHLK, scale, True)
    tap("scores", scores_BHLL)
    tap("pattern", pattern_BHLL)
    return mix_BHLK


class BlockedCausal(torch.autograd.Function):
    """The mix and, where asked for, scores and pattern; gradients flow through the mix."""

    @staticmethod
    def forward(
        ctx, q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float, shown: bool
    ) -> tuple[Tensor, ...]:
        L = q_BHLK.size(2)
        mix_BHLK = torch.empty_like(q_BHLK)
        seen = ()
        if shown:
            seen = (
                q_BHLK.new_full((*q_BHLK.shape[:3], L), float("-inf")),
                q_BHLK.new_zeros((*q_BHLK.shape[:3], L)),
            )
        patterns = []
        for begin, end in blocks(L):
            scores_BHlm = (q_BHLK[:, :, begin:end] * scale) @ k_BHLK[:, :, :end].mT
            future_ll = torch.ones(end - begin, end - begin, dtype=torch.bool, device=q_BHLK.device).triu(1)
            scores_BHlm[..., begin:].masked_fill_(future_ll, float("-inf"))
            pattern_BHlm = scores_BHlm.softmax(-1)
            mix_BHLK[:, :, begin:end] = pattern_BHlm @ v_BHLK[:, :, :end]
            for buffer_BHLL, block_BHlm in zip(seen, (scores_BHlm, pattern_BHlm), strict=False):
                buffer_BHLL[:, :, begin:end, :end] = block_BHlm
            patterns.append(pattern_BHlm)
        ctx.scale = scale
        ctx.save_for_backward(q_BHLK, k_BHLK, v_BHLK, mix_BHLK, *patterns)
        ctx.mark_non_differentiable(*seen)
        return (mix_BHLK, *seen)

    @staticmethod
    def backward(ctx, grad_BHLK: Tensor, *unused: Tensor):
        q_BHLK, k_BHLK, v_BHLK, mix_BHLK, *patterns = ctx.saved_tensors
        q_grad, k_grad, v_grad = (torch.zeros_like(t) for t in (q_BHLK, k_BHLK, v_BHLK))
        mean_BHLx = (grad_BHLK * mix_BHLK).sum(-1, keepdim=True)
        for (begin, end), pattern_BHlm in zip(blocks(q_BHLK.size(2)), patterns, strict=True):
            grad_BHlK = grad_BHLK[:, :, begin:end]
            slope_BHlm = grad_BHlK @ v_BHLK[:, :, :end].mT
            slope_BHlm.sub_(mean_BHLx[:, :, begin:end]).mul_(pattern_BHlm).mul_(ctx.scale)
            v_grad[:, :, :end] += pattern_BHlm.mT @ grad_BHlK
            k_grad[:, :, :end] += slope_BHlm.mT @ q_BHLK[:, :, begin:end]
            q_grad[:, :, begin:end] = slope_BHlm @ k_BHLK[:, :, :end]
        return q_grad, k_grad, v_grad, None, None


def blocks(length: int) -> list[tuple[int, int]]:
    """Where the blocks of queries begin and end."""
    return [(begin, min(begin + QUERIES, length)) for begin in range(0, length, QUERIES)]
