"""Which query may look at which memory position, settled once a forward pass by the stack.

B batch   L query position   M memory position   H query head
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cutaway.errors import TapError


class Mask(NamedTuple):
    """`causal` is the square case a kernel knows by itself; otherwise `allowed` (broadcasts to B, H, L, M) is
    true where a query may look, and None where it may look everywhere. `bias` (H, L, M) is added to the
    scores. `dead` is true for queries that may look nowhere: their output is exactly zero.
    """

    causal: bool = False
    allowed: Tensor | None = None
    bias: Tensor | None = None
    dead: Tensor | None = None


def settle(
    sees: str,
    queries: int,
    memory: int,
    *,
    window: int | None = None,
    padding_BM: Tensor | None = None,
    bias: Tensor | None = None,
    device: torch.device | None = None,
) -> Mask:
    """The mask of `queries` positions that are the last of `memory` ones (so a cache may make M > L).

    `padding_BM` is True where a memory position holds a real token; `window` w lets position l see l-w+1 .. l
    (and as far ahead where it sees all).
    """
    past, windowed = sees == "past", window is not None and window < memory
    if past and queries > memory:
        raise TapError(f"{queries} queries cannot be the last of {memory} memory positions")
    if padding_BM is None and not windowed and bias is None:
        if not past or queries == 1:
            return Mask()
        if queries == memory:
            return Mask(causal=True)
    allowed = None
    if windowed or (past and queries > 1):
        behind_LM = torch.arange(memory - queries, memory, device=device)[:, None] - torch.arange(
            memory, device=device
        )
        allowed_LM = behind_LM >= 0 if past else torch.ones_like(behind_LM, dtype=torch.bool)
        if windowed and window is not None:
            allowed_LM = allowed_LM & (behind_LM.abs() < window)
        allowed = allowed_LM
    dead = None
    if padding_BM is not None:
        real_BxxM = padding_BM[:, None, None, :]
        allowed = real_BxxM if allowed is None else real_BxxM & allowed
        dead = ~allowed.any(-1, keepdim=True)
    return Mask(False, allowed, bias, dead)


def places(length: int, padding_BL: Tensor | None, device: torch.device) -> Tensor:
    """The position of each place, (B or 1, L): real tokens count from 0, padding repeats or is 0."""
    if padding_BL is None:
        return torch.arange(length, device=device)[None]
    return (padding_BL.cumsum(1) - 1).clamp(min=0)


def openly(mask: Mask, queries: int, memory: int, device: torch.device) -> Tensor | None:
    """`allowed` with the causal case written out."""
    if not mask.causal:
        return mask.allowed
    return torch.ones(queries, memory, dtype=torch.bool, device=device).tril()
