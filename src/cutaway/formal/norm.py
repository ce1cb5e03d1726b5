"""Algorithm 6 of Phuong & Hutter: layer normalisation, and RMSnorm. Neither has an epsilon.

So a vector whose entries are all equal (for RMSnorm: all 0) has no norm; NumPy warns and gives NaN.
"""

import numpy as np

from cutaway.formal.weights import Array


def layer_norm(e: Array, gamma: Array, beta: Array) -> Array:
    """Algorithm 6: e^ <- layer_norm(e | gamma, beta), all (d_e). v is the population variance: over d_e."""
    d_e = len(e)
    m = e.sum() / d_e
    v = ((e - m) ** 2).sum() / d_e
    return (e - m) / np.sqrt(v) * gamma + beta


def RMSnorm(e: Array, gamma: Array) -> Array:
    """Algorithm 6 with m = beta = 0: e / sqrt(mean of e^2) * gamma, all (d_e)."""
    d_e = len(e)
    v = (e**2).sum() / d_e
    return e / np.sqrt(v) * gamma


def layer_norm_columns(X: Array, gamma: Array, beta: Array) -> Array:
    """The paper's loop "for t in [l]: X[:, t] <- layer_norm(X[:, t] | gamma, beta)". X (d_e, l)."""
    normed = np.empty_like(X)
    for t in range(X.shape[1]):
        normed[:, t] = layer_norm(X[:, t], gamma, beta)
    return normed
