"""Algorithms 14 and 15 of Phuong & Hutter: continuing a prompt, and answering one sequence with another.

The whole sequence goes through the transformer again for every token, as in the paper.
"""

import math
from collections.abc import Sequence

import numpy as np

from cutaway.errors import LimitError
from cutaway.formal.architectures import DTransformer, EDTransformer
from cutaway.formal.embedding import bos_token, eos_token
from cutaway.formal.weights import Array, DTransformerWeights, EDTransformerWeights


def sample(p: Array, tau: float, rng: np.random.Generator) -> int:
    """A token from q proportional to p^{1/tau}, p (N_V). tau = 0 is the limit: the first of the likeliest."""
    if not 0 <= tau < math.inf:
        raise LimitError(f"tau = {tau}: a temperature is a finite number, 0 or above")
    if tau == 0:
        return int(np.argmax(p))
    q = (p / p.max()) ** (1 / tau)  # divided by max p, so that a small tau does not underflow every entry
    return int(rng.choice(len(p), p=q / q.sum()))


def DInference(
    x: Sequence[int], theta: DTransformerWeights, l_gen: int, tau: float, rng: np.random.Generator
) -> list[int]:
    """Algorithm 14: y <- DInference(x, theta^). A prompt x (l) -> its continuation y (l_gen).

    Raises ContextLengthError when the sequence outgrows l_max.
    """
    x = list(x)
    l_x = len(x)
    if l_x == 0:
        raise LimitError("the prompt x is empty: begin it with bos_token")
    for i in range(1, l_gen + 1):
        P = DTransformer(x, theta)
        p = P[:, l_x + i - 2]  # the paper's P[:, l + i - 1], counted from 0
        y = sample(p, tau, rng)
        x = [*x, y]
    return x[l_x:]


def EDInference(
    z: Sequence[int], theta: EDTransformerWeights, tau: float, rng: np.random.Generator
) -> list[int]:
    """Algorithm 15: x^ <- EDInference(z, theta^). z (l_z) -> x^, from bos_token to eos_token, both included.

    Nothing but eos_token ends it: raises ContextLengthError when x^ outgrows l_max.
    """
    N_V = theta.W_e.shape[1]
    x = [bos_token(N_V)]
    y = None
    while y != eos_token(N_V):
        P = EDTransformer(z, x, theta)
        p = P[:, len(x) - 1]
        y = sample(p, tau, rng)
        x = [*x, y]
    return x
