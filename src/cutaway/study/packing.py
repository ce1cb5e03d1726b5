"""Numbers as text inside a page: 8 bits each where a picture is all they are for, deflated, in base64.

Attention weights are kept as whole steps of their square root. A weight of a 512-token pattern is often
0.002, which steps of the weight itself would lose; the square root spends them where the weights are.

H query head   L query position   M memory position
"""

import base64
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

STEPS = (255, 127, 63, 31)  # tried in turn until the patterns fit
MOST_PATTERN_CHARACTERS = 16_000_000


@dataclass(frozen=True)
class PackedPatterns:
    """`layers[n]` holds layer n's codes, head by head, row by row; only m <= l where `causal`.

    A code c stands for the weight (c / steps)^2, so a weight w is off by at most
    sqrt(w) / steps + 1 / (2 steps)^2.
    """

    layers: tuple[str, ...]
    steps: int
    causal: bool


def pack(values: np.ndarray) -> str:
    """The bytes of an array in C order, deflated (zlib), in base64."""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(values).tobytes(), 6)).decode("ascii")


def pack_patterns(patterns: Sequence[np.ndarray], most: int, causal: bool) -> PackedPatterns:
    """Pack one array (H, L, M) of weights a layer into at most `most` characters, as finely as that allows.

    With `causal`, what lies right of the diagonal is left out. Where not even the coarsest steps fit, they
    are used all the same.
    """
    for steps in STEPS:
        layers = tuple(_pack_layer(pattern_HLM, steps, causal) for pattern_HLM in patterns)
        if sum(map(len, layers)) <= most:
            break
    return PackedPatterns(layers, steps, causal)


def _pack_layer(pattern_HLM: np.ndarray, steps: int, causal: bool) -> str:
    codes_HLM = np.rint(np.sqrt(pattern_HLM.astype(np.float32)) * steps).astype(np.uint8)
    if causal:
        return pack(codes_HLM[:, *np.tril_indices(codes_HLM.shape[1])])
    return pack(codes_HLM)
