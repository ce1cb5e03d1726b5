"""Where a position is: learned vectors, sinusoids, rotation, ALiBi, T5's relative bias.

Learned and hard-coded positions are Algorithm 2 of Phuong & Hutter (2022); rotation is Su et al. 2021, ALiBi
Press et al. 2021, the relative bias Raffel et al. 2019.

B batch   L query position   M memory position   D width   H query head   K head width   E rotated pair
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import ConfigError, ContextLengthError
from cutaway.nn.part import computes


@computes(spec.Learned)
class Learned(nn.Module):
    """One vector a position, looked up."""

    def __init__(self, plan: spec.Learned, width: int):
        super().__init__()
        self.length, self.offset = plan.length, plan.offset
        self.weight = nn.Parameter(torch.empty(plan.length + plan.offset, width))

    def forward(self, positions_BL: Tensor, last: int) -> Tensor:
        """Positions -> (B, L, D); `last` is the largest of them, known without looking.

        Raises ContextLengthError where `last` is beyond the table.
        """
        if last >= self.length:
            raise ContextLengthError(last + 1, self.length)
        return nn.functional.embedding(positions_BL + self.offset, self.weight)


@computes(spec.Sinusoidal)
class Sinusoidal(nn.Module):
    """sin and cos of position / base^(2i/D), without parameters."""

    def __init__(self, plan: spec.Sinusoidal, width: int):
        super().__init__()
        self.base, self.layout, self.width = plan.base, plan.layout, width

    def forward(self, positions_BL: Tensor, last: int) -> Tensor:
        """Positions -> (B, L, D) in float64; the input casts it to its own."""
        even = torch.arange(0, self.width, 2, device=positions_BL.device, dtype=torch.float64)
        angle = positions_BL[..., None] * self.base ** (-even / self.width)
        if self.layout == "halves":
            table = torch.cat([angle.sin(), angle.cos()], dim=-1)
        else:
            table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return table[..., : self.width]


class Rotation(NamedTuple):
    """Cosines and sines (B or 1, 1, L, E) for one forward pass, and which numbers form a pair."""

    cos: Tensor
    sin: Tensor
    pairs: str


def rotation(plan: spec.Rotary, head_width: int, positions_BL: Tensor, dtype: torch.dtype) -> Rotation:
    """The rotation of every position: angle position / theta^(2i / rotated width)."""
    rotated = int(head_width * plan.fraction) // 2 * 2
    fine = torch.float64 if dtype == torch.float64 else torch.float32
    even = torch.arange(0, rotated, 2, device=positions_BL.device, dtype=fine)
    speed_E = stretched(plan.theta ** (-even / rotated), plan.scaling)
    angle_BLE = positions_BL[..., None].to(fine) * speed_E
    return Rotation(angle_BLE.cos().to(dtype)[:, None], angle_BLE.sin().to(dtype)[:, None], plan.pairs)


def stretched(speed_E: Tensor, plan: spec.Stretch | None) -> Tensor:
    """How far each pair turns a position, (E,) -> (E,); ConfigError for a stretch that nobody computes."""
    match plan:
        case None:
            return speed_E
        case spec.Interpolated(factor=factor):
            return speed_E / factor
        case spec.ByParts(factor=factor, low=low, high=high, length=length):
            turns_E = length * speed_E / (2 * math.pi)
            kept_E = ((turns_E - low) / (high - low)).clamp(0, 1)
            return speed_E * (kept_E + (1 - kept_E) / factor)
    raise ConfigError(
        f"{type(plan).__name__}: no such stretch of a rotation is built; known: Interpolated, ByParts"
    )


def rotate(x_BHLK: Tensor, rotation: Rotation) -> Tensor:
    """Turn each pair of numbers by its position's angle; numbers beyond the rotated width pass."""
    cos, sin, pairs = rotation
    rotated = 2 * cos.size(-1)
    turned, rest = x_BHLK[..., :rotated], x_BHLK[..., rotated:]
    if pairs == "adjacent":
        first, second = turned[..., 0::2], turned[..., 1::2]
        turned = torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)
    else:
        first, second = turned.chunk(2, dim=-1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)
    return torch.cat([turned, rest], dim=-1) if rest.size(-1) else turned


def slopes(heads: int) -> list[float]:
    """ALiBi's slope a head: a geometric sequence; counts between powers of 2 take every other of the next."""
    power = 2 ** math.floor(math.log2(heads))
    first = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    return first + [2 ** (-4 * (2 * i + 1) / power) for i in range(heads - power)]


@computes(spec.ALiBi)
class ALiBi(nn.Module):
    """-slope * distance, the same in every layer."""

    def __init__(self, plan: spec.ALiBi, heads: int):
        super().__init__()
        self.slopes = slopes(heads)

    def forward(self, queries_L: Tensor, memory_M: Tensor, sees: str, dtype: torch.dtype) -> Tensor:
        """Positions of queries and memory -> (H, L, M)."""
        distance_LM = (queries_L[:, None] - memory_M[None, :]).abs()
        slope_H = torch.tensor(self.slopes, device=queries_L.device, dtype=dtype)
        return -slope_H[:, None, None] * distance_LM


@computes(spec.RelativeBias)
class RelativeBias(nn.Module):
    """A learned number for each bucket of distances and head: half the buckets exact, half logarithmic."""

    def __init__(self, plan: spec.RelativeBias, heads: int):
        super().__init__()
        self.buckets, self.distance = plan.buckets, plan.distance
        self.weight = nn.Parameter(torch.empty(plan.buckets, heads))

    def forward(self, queries_L: Tensor, memory_M: Tensor, sees: str, dtype: torch.dtype) -> Tensor:
        """Positions of queries and memory -> (H, L, M)."""
        ahead_LM = memory_M[None, :] - queries_L[:, None]
        bucket_LM = torch.zeros_like(ahead_LM)
        count = self.buckets
        if sees == "all":  # half of the buckets look forward
            count //= 2
            bucket_LM = (ahead_LM > 0) * count
            distance_LM = ahead_LM.abs()
        else:
            distance_LM = (-ahead_LM).clamp(min=0)
        exact = count // 2
        ratio_LM = (distance_LM.clamp(min=1).float() / exact).log() / math.log(self.distance / exact)
        far_LM = (exact + (ratio_LM * (count - exact)).long()).clamp(max=count - 1)
        bucket_LM = bucket_LM + torch.where(distance_LM < exact, distance_LM, far_LM)
        return nn.functional.embedding(bucket_LM, self.weight).permute(2, 0, 1)
