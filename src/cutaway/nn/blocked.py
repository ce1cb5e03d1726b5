"""Causal attention in blocks of queries, each against the keys up to its end: Algorithm 4 by plain products.

For bf16 on a CPU torch's fused kernel is the slower one (LOG.md); this leaves out most of the future. It is
an operator of its own, so that the compiler calls it as it stands and does not unroll its blocks. (It keeps
graphs on disk by the operators' names: who changes what they take or return renames both.)

B batch   L position   H head   K head width   l queries of a block   m keys up to the block's end
N head of a row (B * H)   E the blocks' patterns (l, m), one after the other
"""

import torch
from torch import Tensor

QUERIES = 128  # rows of a block


def attend_blocked(
    q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float, keep: bool = False
) -> tuple[Tensor, Tensor]:
    """softmax(q k^T scale) v over the past, (B, H, L, K), and the pattern, packed (see `unpack`).

    The pattern is empty unless it is to be kept or a gradient may need it: its memory costs time.
    """
    return causal_by_blocks(q_BHLK, k_BHLK, v_BHLK, scale, keep or torch.is_grad_enabled())


def unpack(pattern_EBH: Tensor, length: int) -> Tensor:
    """The packed pattern as (B, H, L, L), zero in the future."""
    B, H = pattern_EBH.shape[1:]
    pattern_BHLL = pattern_EBH.new_zeros(B, H, length, length)
    for (begin, end), block_BHlm in zip(blocks(length), views(pattern_EBH, length), strict=True):
        pattern_BHLL[:, :, begin:end, :end] = block_BHlm
    return pattern_BHLL


@torch.library.custom_op("cutaway::causal_by_blocks", mutates_args=())
def causal_by_blocks(
    q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float, keep: bool
) -> tuple[Tensor, Tensor]:
    """The mix and the packed pattern, empty unless kept; gradients flow through the mix."""
    B, H, L, _ = q_BHLK.shape
    mix_BHLK = torch.empty_like(q_BHLK)
    pattern_EBH = q_BHLK.new_empty(packed_size(L) if keep else 0, B, H)
    kept = views(pattern_EBH, L) if keep else [None] * len(blocks(L))
    q_NLK, k_NLK, v_NLK = side_by_side(q_BHLK, scale), side_by_side(k_BHLK), side_by_side(v_BHLK)
    future_ll = q_BHLK.new_full((QUERIES, QUERIES), float("-inf")).triu(1)
    for (begin, end), kept_BHlm in zip(blocks(L), kept, strict=True):
        scores_Nlm = q_NLK[:, begin:end] @ k_NLK[:, :end].mT
        scores_Nlm[..., begin:] += future_ll[: end - begin, : end - begin]
        room_Nlm = None if kept_BHlm is None else kept_BHlm.flatten(0, 1)
        pattern_Nlm = torch.softmax(scores_Nlm, -1, out=room_Nlm)
        mix_BHLK[:, :, begin:end] = (pattern_Nlm @ v_NLK[:, :end]).unflatten(0, (B, H))
    return mix_BHLK, pattern_EBH


@torch.library.custom_op("cutaway::causal_by_blocks_gradients", mutates_args=())
def causal_by_blocks_gradients(
    grad_BHLK: Tensor, q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, pattern_EBH: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; the softmax's needs only its output."""
    B, H, L, _ = q_BHLK.shape
    q_NLK, k_NLK = side_by_side(q_BHLK, scale), side_by_side(k_BHLK, scale)
    v_NLK, grad_NLK = side_by_side(v_BHLK), side_by_side(grad_BHLK)
    q_grad, k_grad, v_grad = torch.empty_like(q_BHLK), torch.zeros_like(k_NLK), torch.zeros_like(v_NLK)
    for (begin, end), pattern_BHlm in zip(blocks(L), views(pattern_EBH, L), strict=True):
        pattern_Nlm, grad_NlK = pattern_BHlm.flatten(0, 1), grad_NLK[:, begin:end]
        slope_Nlm = grad_NlK @ v_NLK[:, :end].mT
        slope_Nlm = torch.ops.aten._softmax_backward_data(slope_Nlm, pattern_Nlm, -1, slope_Nlm.dtype)
        v_grad[:, :end] += pattern_Nlm.mT @ grad_NlK
        k_grad[:, :end] += slope_Nlm.mT @ q_NLK[:, begin:end]
        q_grad[:, :, begin:end] = (slope_Nlm @ k_NLK[:, :end]).unflatten(0, (B, H))
    return q_grad, k_grad.unflatten(0, (B, H)), v_grad.unflatten(0, (B, H))


@causal_by_blocks.register_fake
def _(q_BHLK: Tensor, k_BHLK: Tensor, v_BHLK: Tensor, scale: float, keep: bool) -> tuple[Tensor, Tensor]:
    B, H, L, _ = q_BHLK.shape
    return torch.empty_like(q_BHLK), q_BHLK.new_empty(packed_size(L) if keep else 0, B, H)


@causal_by_blocks_gradients.register_fake
def _(grad_BHLK, q_BHLK, k_BHLK, v_BHLK, pattern_EBH, scale):
    return torch.empty_like(q_BHLK), k_BHLK.new_empty(k_BHLK.shape), v_BHLK.new_empty(v_BHLK.shape)


def _remember(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    q_BHLK, k_BHLK, v_BHLK, ctx.scale, _ = inputs
    ctx.save_for_backward(q_BHLK, k_BHLK, v_BHLK, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx, grad_BHLK: Tensor, unused: Tensor | None) -> tuple[Tensor | None, ...]:
    return *causal_by_blocks_gradients(grad_BHLK, *ctx.saved_tensors, ctx.scale), None, None


causal_by_blocks.register_autograd(_backward, setup_context=_remember)


def blocks(length: int) -> list[tuple[int, int]]:
    """Where the blocks of queries begin and end."""
    return [(begin, min(begin + QUERIES, length)) for begin in range(0, length, QUERIES)]


def side_by_side(x_BHLK: Tensor, scale: float = 1.0) -> Tensor:
    """The heads of all rows one after the other in memory (N, L, K), so that slices need no copy."""
    x_BHLK = x_BHLK.contiguous()
    return (x_BHLK if scale == 1.0 else x_BHLK * scale).flatten(0, 1)


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
