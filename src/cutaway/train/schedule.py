"""How the rate changes over the steps: a factor between 0 and 1, a pure function of the step."""

import math

from cutaway import spec
from cutaway.errors import ConfigError


def factor_at(schedule: spec.Schedule, step: int, steps: int) -> float:
    """What the rate is multiplied with at `step` (from 0) of `steps`."""
    match schedule:
        case spec.Cosine(warmup, floor):
            if step < warmup:
                return (step + 1) / warmup
            progress = (step - warmup) / max(1, steps - warmup)
            return floor + (1 - floor) * (1 + math.cos(math.pi * progress)) / 2
        case spec.StableDecay(warmup, decay, floor):
            rising = (step + 1) / warmup if step < warmup else 1.0
            falling = (steps - step) / max(1.0, decay * steps)
            return rising * (floor + (1 - floor) * min(1.0, falling))
        case spec.InverseSqrt(warmup):
            return min((step + 1) / warmup, math.sqrt(warmup / (step + 1)))
        case _:
            raise ConfigError(
                f"schedule {type(schedule).__name__}: known are Cosine, StableDecay and InverseSqrt"
            )
