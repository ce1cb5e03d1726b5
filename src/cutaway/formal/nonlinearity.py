"""softmax over columns, ReLU and the exact GELU, as Phuong & Hutter write them."""

import math

import numpy as np

from cutaway.formal.weights import Array

erf = np.vectorize(math.erf, otypes=[np.float64])  # NumPy has none


def softmax(A: Array) -> Array:
    """exp(A[i, j]) / sum_k exp(A[k, j]): a distribution in every column of A (or in A, if it is one vector).

    A column of nothing but -inf, 0/0 in the paper, is exactly 0 here. The largest entry of a column is
    subtracted first, which changes no value and keeps exp from overflowing.
    """
    largest = A.max(axis=0, initial=-np.inf)
    hidden = largest == -np.inf
    numerator = np.exp(A - np.where(hidden, 0.0, largest))
    return numerator / np.where(hidden, 1.0, numerator.sum(axis=0))


def ReLU(x: Array) -> Array:
    return np.maximum(x, 0.0)


def GELU(x: Array) -> Array:
    """x times the probability that a standard normal variable is below x."""
    return x * (1 + erf(x / math.sqrt(2))) / 2
