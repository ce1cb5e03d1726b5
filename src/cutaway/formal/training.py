"""Algorithms 11, 12 and 13 of Phuong & Hutter: stochastic gradient descent, one sequence at a time.

The paper writes theta <- theta - eta * grad loss(theta) and leaves the gradient to whoever computes it. So it
is an argument here: `gradient(loss, theta)` returns a record shaped like theta. The default is the definition
of a derivative, central differences: exact to about 1e-9 and slow, two losses for each parameter.

z_data, x_data: N_data sequences each   eta learning rate   N_epochs passes over the data
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from cutaway.errors import ConfigError
from cutaway.formal.architectures import DTransformer, EDTransformer, ETransformer
from cutaway.formal.embedding import mask_token
from cutaway.formal.weights import (
    Array,
    DTransformerWeights,
    EDTransformerWeights,
    ETransformerWeights,
    map_arrays,
)

Tokens = Sequence[int]
Theta = TypeVar("Theta", EDTransformerWeights, ETransformerWeights, DTransformerWeights)
Gradient = Callable[[Callable[[Theta], float], Theta], Theta]


def central_differences(loss: Callable[[Theta], float], theta: Theta) -> Theta:
    """grad loss(theta): for every entry w of theta, (loss(w + h) - loss(w - h)) / 2h with h = 1e-5."""
    h = 1e-5
    moved = map_arrays(np.copy, theta)  # theta may be read-only, or hold one array twice

    def differentiate(W: Array) -> Array:
        dW = np.empty_like(W)
        for i in np.ndindex(W.shape):
            w = W[i]
            W[i] = w + h
            above = loss(moved)
            W[i] = w - h
            below = loss(moved)
            W[i] = w
            dW[i] = (above - below) / (2 * h)
        return dW

    return map_arrays(differentiate, moved)


def EDLoss(z: Tokens, x: Tokens, theta: EDTransformerWeights) -> float:
    """-sum_{t=1}^{l-1} log P[x[t+1], t], the nats it takes to write x after its first token, given z."""
    P = EDTransformer(z, x, theta)
    return float(-sum(np.log(P[x[t + 1], t]) for t in range(len(x) - 1)))


def ELoss(x_masked: Tokens, x: Tokens, theta: ETransformerWeights) -> float:
    """-sum of log P[x[t], t] over the t at which x_masked is mask_token; 0 where it is nowhere."""
    P = ETransformer(x_masked, theta)
    masked = [t for t in range(len(x)) if x_masked[t] == mask_token(theta.W_e.shape[1])]
    return float(-sum(np.log(P[x[t], t]) for t in masked))


def DLoss(x: Tokens, theta: DTransformerWeights) -> float:
    """-sum_{t=1}^{l-1} log P[x[t+1], t], the nats it takes to write x after its first token."""
    P = DTransformer(x, theta)
    return float(-sum(np.log(P[x[t + 1], t]) for t in range(len(x) - 1)))


def EDTraining(
    z_data: Sequence[Tokens],
    x_data: Sequence[Tokens],
    theta: EDTransformerWeights,
    N_epochs: int,
    eta: float,
    gradient: Gradient[EDTransformerWeights] = central_differences,
) -> EDTransformerWeights:
    """Algorithm 11: theta^ <- EDTraining(z_{1:N_data}, x_{1:N_data}, theta).

    For EDInference to start and stop, x_n begins with bos_token and ends with eos_token.
    """
    if len(z_data) != len(x_data):
        raise ConfigError(f"{len(z_data)} z but {len(x_data)} x: EDTraining needs pairs")
    for _ in range(N_epochs):
        for z, x in zip(z_data, x_data, strict=True):
            grad = gradient(lambda theta, z=z, x=x: EDLoss(z, x, theta), theta)
            theta = map_arrays(lambda W, dW: W - eta * dW, theta, grad)
    return theta


def mask_randomly(x: Tokens, p_mask: float, mask: int, rng: np.random.Generator) -> list[int]:
    """x with each token replaced by `mask` with probability p_mask (and nothing of BERT's 80/10/10)."""
    return [mask if rng.random() < p_mask else token for token in x]


def ETraining(
    x_data: Sequence[Tokens],
    theta: ETransformerWeights,
    N_epochs: int,
    eta: float,
    p_mask: float,
    rng: np.random.Generator,
    gradient: Gradient[ETransformerWeights] = central_differences,
) -> ETransformerWeights:
    """Algorithm 12: theta^ <- ETraining(x_{1:N_data}, theta). Every visit to a sequence draws a new mask."""
    mask = mask_token(theta.W_e.shape[1])
    for _ in range(N_epochs):
        for x in x_data:
            x_masked = mask_randomly(x, p_mask, mask, rng)
            grad = gradient(lambda theta, x_masked=x_masked, x=x: ELoss(x_masked, x, theta), theta)
            theta = map_arrays(lambda W, dW: W - eta * dW, theta, grad)
    return theta


def DTraining(
    x_data: Sequence[Tokens],
    theta: DTransformerWeights,
    N_epochs: int,
    eta: float,
    gradient: Gradient[DTransformerWeights] = central_differences,
) -> DTransformerWeights:
    """Algorithm 13: theta^ <- DTraining(x_{1:N_data}, theta)."""
    for _ in range(N_epochs):
        for x in x_data:
            grad = gradient(lambda theta, x=x: DLoss(x, theta), theta)
            theta = map_arrays(lambda W, dW: W - eta * dW, theta, grad)
    return theta
