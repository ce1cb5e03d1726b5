"""Algorithms 1, 2 and 7 of Phuong & Hutter: tokens and positions to vectors, vectors to distributions.

N_V size of the vocabulary   d_e width of an embedding   l_max most positions
"""

from collections.abc import Sequence

import numpy as np

from cutaway.errors import ConfigError, ContextLengthError, LimitError
from cutaway.formal.nonlinearity import softmax
from cutaway.formal.weights import Array


def mask_token(N_V: int) -> int:
    return N_V - 3


def bos_token(N_V: int) -> int:
    return N_V - 2


def eos_token(N_V: int) -> int:
    return N_V - 1


def token_embedding(v: int, W_e: Array) -> Array:
    """Algorithm 1: token embedding. v in V, W_e (d_e, N_V) -> e (d_e)."""
    N_V = W_e.shape[1]
    if not 0 <= v < N_V:  # NumPy would count a negative v from the end
        raise LimitError(f"token {v} is not in the vocabulary 0 .. {N_V - 1}: use this model's own tokenizer")
    return W_e[:, v]


def positional_embedding(t: int, W_p: Array) -> Array:
    """Algorithm 2: positional embedding. Position t in [l_max], W_p (d_e, l_max) -> e_p (d_e)."""
    l_max = W_p.shape[1]
    if not 0 <= t < l_max:
        raise ContextLengthError(t + 1, l_max)
    return W_p[:, t]


def hard_coded_positional_embedding(d_e: int, l_max: int) -> Array:
    """The variant of algorithm 2 that is not learned: W_p (d_e, l_max) of sines and cosines, d_e even.

    In the paper's indices W_p[2i-1, t] = sin(t / l_max^{2i/d_e}), W_p[2i, t] = cos(the same), 0 < i <= d_e/2.
    Both i and t start at 1, and the base is l_max: neither is so in Vaswani et al. (0 and 10000).
    """
    if d_e % 2:
        raise ConfigError(f"d_e = {d_e}: sines and cosines come in pairs, so d_e must be even")
    W_p = np.empty((d_e, l_max))
    for i in range(1, d_e // 2 + 1):
        for t in range(1, l_max + 1):
            W_p[2 * i - 2, t - 1] = np.sin(t / l_max ** (2 * i / d_e))
            W_p[2 * i - 1, t - 1] = np.cos(t / l_max ** (2 * i / d_e))
    return W_p


def embed(x: Sequence[int], W_e: Array, W_p: Array) -> Array:
    """How algorithms 8, 9 and 10 begin: x (l) -> X (d_e, l) with columns e_t = W_e[:, x[t]] + W_p[:, t]."""
    X = np.empty((W_e.shape[0], len(x)))
    for t in range(len(x)):
        X[:, t] = token_embedding(x[t], W_e) + positional_embedding(t, W_p)
    return X


def unembedding(e: Array, W_u: Array) -> Array:
    """Algorithm 7: unembedding. e (d_e), W_u (N_V, d_e) -> p (N_V) in the simplex."""
    return softmax(W_u @ e)
