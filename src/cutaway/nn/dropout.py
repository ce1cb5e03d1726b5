"""Dropout (Srivastava et al. 2014): zero with probability p, the rest scaled by 1 / (1 - p).

torch draws the mask of a CPU one double at a time on one core; 16 random bits a number decide as well, with p
rounded to the nearest 1/65536, and cost half or less.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

STEPS = 1 << 16


def drop(x: Tensor, probability: float, training: bool) -> Tensor:
    """`x` of any shape, dropped out where `training`."""
    if not training or not probability:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, probability)
    zeros = round(probability * STEPS)
    kept = random_shorts(x) >= zeros - STEPS // 2
    return x * kept * (STEPS / (STEPS - zeros))  # a product, for `where` is four times slower


@torch.library.custom_op("cutaway::random_shorts", mutates_args=(), tags=(torch.Tag.nondeterministic_seeded,))
def random_shorts(x: Tensor) -> Tensor:
    """16 random bits for each number of `x`, int16; compiled or not, the same ones after the same seed."""
    words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    return words.view(torch.int16)[: x.numel()].view(x.shape)


@random_shorts.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=torch.int16)
