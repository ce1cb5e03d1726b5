"""Causal attention in blocks of queries, each against the keys up to its end: Algorithm 4 by plain products.

For bf16 on a CPU torch's fused kernel is the slower one (LOG.md); this leaves out most of the future. It is
an operator of its own, so that the compiler calls it as it stands and does not unroll its blocks.

B batch   L position   H head   K head width   l queries of a block   m keys up to the block's end
E the blocks' patterns (l, m), one after the other
"""

import torch
from torch import Tensor

QUERIES = 128  # rows of a block


def attend_blocked(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """softmax(q k^T scale) v over the past, (B, H, L, K), and the pattern, packed (see `unpack`)."""
    return blocked_causal(q_BHLK, k_BHLK, v_BHLK, scale)


def unpack(pattern_EBH: Tensor, length: int) -> Tensor:
    """The packed pattern as (B, H, L, L), zero in the future."""
    B, H = pattern_EBH.shape[1:]
    pattern_BHLL = pattern_EBH.new_zeros(B, H, length, length)
    for (begin, end), block_BHlm in zip(blocks(length), views(pattern_EBH, length), strict=True):
        pattern_BHLL[:, :, begin:end, :end] = block_BHlm
    return pattern_BHLL


@torch.library.custom_op("cutaway::blocked_causal", mutates_args=())
def blocked_causal(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The mix and the packed pattern; gradients flow through the mix."""
    B, H, L, _ = q_BHLK.shape
    mix_BHLK = torch.empty_like(q_BHLK)
    pattern_EBH = q_BHLK.new_empty(packed_size(L), B, H)
    for (begin, end), pattern_BHlm in zip(blocks(L), views(pattern_EBH, L), strict=True):
        scores_BHlm = (q_BHLK[:, :, begin:end] * scale) @ k_BHLK[:, :, :end].mT
        future_ll = torch.ones(end - begin, end - begin, dtype=torch.bool, device=q_BHLK.device).triu(1)
        scores_BHlm[..., begin:].masked_fill_(future_ll, float("-inf"))
        torch.softmax(scores_BHlm, -1, out=pattern_BHlm)
        mix_BHLK[:, :, begin:end] = pattern_BHlm @ v_BHLK[:, :, :end]
    return mix_BHLK, pattern_EBH


@torch.library.custom_op("cutaway::blocked_causal_backward", mutates_args=())
def blocked_causal_backward(
    grad_BHLK: Tensor,
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    mix_BHLK: Tensor,
    pattern_EBH: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; the softmax's needs only its output (Dao et al. 2022, appendix B)."""
    L = q_BHLK.size(2)
    q_grad, k_grad, v_grad = torch.empty_like(q_BHLK), torch.zeros_like(k_BHLK), torch.zeros_like(v_BHLK)
    mean_BHL1 = (grad_BHLK * mix_BHLK).sum(-1, keepdim=True)
    for (begin, end), pattern_BHlm in zip(blocks(L), views(pattern_EBH, L), strict=True):
        grad_BHlK = grad_BHLK[:, :, begin:end]
        slope_BHlm = grad_BHlK @ v_BHLK[:, :, :end].mT
        slope_BHlm.sub_(mean_BHL1[:, :, begin:end]).mul_(pattern_BHlm).mul_(scale)
        v_grad[:, :, :end] += pattern_BHlm.mT @ grad_BHlK
        k_grad[:, :, :end] += slope_BHlm.mT @ q_BHLK[:, :, begin:end]
        q_grad[:, :, begin:end] = slope_BHlm @ k_BHLK[:, :, :end]
    return q_grad, k_grad, v_grad


@blocked_causal.register_fake
def _(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    B, H, L, _ = q_BHLK.shape
    return torch.empty_like(q_BHLK), q_BHLK.new_empty(packed_size(L), B, H)


@blocked_causal_backward.register_fake
def _(grad_BHLK, q_BHLK, k_BHLK, v_BHLK, mix_BHLK, pattern_EBH, scale):
    return torch.empty_like(q_BHLK), torch.empty_like(k_BHLK), torch.empty_like(v_BHLK)


def _remember(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    q_BHLK, k_BHLK, v_BHLK, ctx.scale = inputs
    ctx.save_for_backward(q_BHLK, k_BHLK, v_BHLK, *output)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad_BHLK: Tensor, unused: Tensor | None) -> tuple[Tensor | None, ...]:
    return *blocked_causal_backward(grad_BHLK, *ctx.saved_tensors, ctx.scale), None


blocked_causal.register_autograd(_backward, setup_context=_remember)


def blocks(length: int) -> list[tuple[int, int]]:
    """Where the blocks of queries begin and end."""
    return [(begin, min(begin + QUERIES, length)) for begin in range(0, length, QUERIES)]


def packed_size(length: int) -> int:
    """How many numbers of the pattern the blocks hold, for one head."""
    return sum((end - begin) * end for begin, end in blocks(length))


def views(pattern_EBH: Tensor, length: int) -> list[Tensor]:
    """Each block's pattern (B, H, l, m), in the memory of the packed one."""
    B, H = pattern_EBH.shape[1:]
    flat, found, place = pattern_EBH.view(-1), [], 0
    for begin, end in blocks(length):
        count = B * H * (end - begin) * end
        found.append(flat[place : place + count].view(B, H, end - begin, end))
        place += count
    return found
