"""The parameters theta as records: what the paper lists under "Parameters" of algorithms 4, 5, 8, 9 and 10.

Every W is R^{out x in}, the layout of torch's nn.Linear.weight. Every field stands alone, as in the paper:
W_u is not tied to W_e, nor one head's keys to another's (give both the same values; training parts them).
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tree = TypeVar("Tree")


@dataclass(frozen=True, eq=False)
class AttentionWeights:
    """W_qkv of one head: W_q (d_attn, d_x), W_k (d_attn, d_z), W_v (d_out, d_z), each with its b."""

    W_q: Array
    b_q: Array
    W_k: Array
    b_k: Array
    W_v: Array
    b_v: Array


@dataclass(frozen=True, eq=False)
class MultiHeadWeights:
    """H heads, whose d_out is here called d_mid, and W_o (d_out, H d_mid), b_o (d_out)."""

    heads: tuple[AttentionWeights, ...]
    W_o: Array
    b_o: Array


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """A layer of algorithms 9 and 10, and of the encoder of 8.

    W's d_out is d_e; gamma, beta (d_e); W_mlp1 (d_mlp, d_e), W_mlp2 (d_e, d_mlp), each with its b.
    """

    W: MultiHeadWeights
    gamma_1: Array
    beta_1: Array
    W_mlp1: Array
    b_mlp1: Array
    W_mlp2: Array
    b_mlp2: Array
    gamma_2: Array
    beta_2: Array


@dataclass(frozen=True, eq=False)
class CrossLayerWeights:
    """A layer of the decoder of algorithm 8: W_dec looks at X itself, W_ed (W^{e/d} in the paper) at Z."""

    W_dec: MultiHeadWeights
    gamma_3: Array
    beta_3: Array
    W_ed: MultiHeadWeights
    gamma_4: Array
    beta_4: Array
    W_mlp3: Array
    b_mlp3: Array
    W_mlp4: Array
    b_mlp4: Array
    gamma_5: Array
    beta_5: Array


@dataclass(frozen=True, eq=False)
class EDTransformerWeights:
    """theta of algorithm 8: W_e (d_e, N_V), W_p (d_e, l_max), L_enc and L_dec layers, W_u (N_V, d_e)."""

    W_e: Array
    W_p: Array
    encoder: tuple[LayerWeights, ...]
    decoder: tuple[CrossLayerWeights, ...]
    W_u: Array


@dataclass(frozen=True, eq=False)
class ETransformerWeights:
    """theta of algorithm 9: as 8 with L layers, W_f (d_f, d_e), b_f, gamma, beta (d_f), W_u (N_V, d_f)."""

    W_e: Array
    W_p: Array
    layers: tuple[LayerWeights, ...]
    W_f: Array
    b_f: Array
    gamma: Array
    beta: Array
    W_u: Array


@dataclass(frozen=True, eq=False)
class DTransformerWeights:
    """theta of algorithm 10: W_e (d_e, N_V), W_p (d_e, l_max), L layers, gamma, beta, W_u (N_V, d_e)."""

    W_e: Array
    W_p: Array
    layers: tuple[LayerWeights, ...]
    gamma: Array
    beta: Array
    W_u: Array


def map_arrays(function: Callable[..., Array], tree: Tree, *others: Tree) -> Tree:
    """A record like `tree`, each array `function` of the arrays in the same place of `tree` and `others`.

    So theta - eta * grad is map_arrays(lambda W, dW: W - eta * dW, theta, grad).
    """

    def walk(*parts: Any) -> Any:
        first = parts[0]
        if isinstance(first, np.ndarray):
            return function(*parts)
        if isinstance(first, tuple):
            return tuple(walk(*items) for items in zip(*parts, strict=True))
        names = [field.name for field in fields(first)]
        return type(first)(**{name: walk(*(getattr(part, name) for part in parts)) for name in names})

    return walk(tree, *others)
