"""Which examples a training step sees: a pure function of (seed, step), with O(1) seek and no state.

The tokens are cut into windows of L + 1, each sharing one token with the next (the target of its last
position). Every epoch starts the cut at another place and visits the windows in another order: a keyed
permutation made of rounds on two digits (a Feistel network on a mixed radix: Black & Rogaway 2002), so that
no order is ever stored.

B batch   L query position   E windows asked for (one axis)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cutaway.data.mixing import mix, seed_key
from cutaway.errors import ConfigError, LimitError

ROUNDS = 6
ORDER, PHASE = 1, 2  # what a random number is for, so that no two uses share one


@dataclass(frozen=True)
class Batches:
    """Batches of windows of `tokens` (one axis of ids), in an order that `seed` alone decides.

    Raises LimitError where there are fewer than length + 1 tokens.
    """

    tokens: np.ndarray
    length: int
    batch: int
    seed: int

    def __post_init__(self):
        if self.length < 1 or self.batch < 1:
            raise ConfigError(f"length {self.length}, batch {self.batch}: both must be at least 1")
        if len(self.tokens) < self.length + 1:
            raise LimitError(
                f"{len(self.tokens)} tokens, but windows of length {self.length} need at least "
                f"{self.length + 1}: give more text or a smaller length"
            )

    @property
    def windows(self) -> int:
        """Windows in an epoch: one fewer than fit, where two or more fit, so that the cut can move."""
        return max(1, (len(self.tokens) - self.length) // self.length)

    def batch_at(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """The ids of a step, int64 (B, L + 1): inputs are [:, :-1], targets [:, 1:]; `rows` of them only."""
        starts_B = self.starts_at(step, rows)
        return self.tokens[starts_B[:, None] + np.arange(self.length + 1)].astype(np.int64)

    def starts_at(self, step: int, rows: slice = slice(None)) -> np.ndarray:
        """Where in the tokens each window of a step begins, int64 (B,)."""
        numbers_B = step * self.batch + np.arange(self.batch, dtype=np.int64)[rows]
        epochs_B, places_B = np.divmod(numbers_B, self.windows)
        keys_B = mix(seed_key(self.seed) + epochs_B.astype(np.uint64))
        room = len(self.tokens) - self.windows * self.length
        phases_B = (mix(keys_B + np.uint64(PHASE)) % np.uint64(room)).astype(np.int64)
        return phases_B + permute(places_B, self.windows, mix(keys_B + np.uint64(ORDER))) * self.length

    def example_ids(self, step: int) -> list[int]:
        """A name for each example of a step, for error messages: the position of its first token."""
        return self.starts_at(step).tolist()


def evaluation_windows(
    tokens: np.ndarray, length: int, batch: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Inputs and targets, int64 (B, L), that score every token after the first exactly once.

    Windows of `length` do not overlap and carry nothing over; what is left at the end is a shorter window,
    alone in the last batch. Raises LimitError where there are fewer than 2 tokens.
    """
    if len(tokens) < 2:
        raise LimitError(f"{len(tokens)} tokens, but an evaluation needs at least 2: give more text")
    whole = (len(tokens) - 1) // length
    for first in range(0, whole, batch):
        count = min(batch, whole - first)
        start, end = first * length, (first + count) * length
        part = np.asarray(tokens[start : end + 1]).astype(np.int64)
        yield part[:-1].reshape(count, length), part[1:].reshape(count, length)
    if (len(tokens) - 1) % length:
        part = np.asarray(tokens[whole * length :]).astype(np.int64)
        yield part[None, :-1], part[None, 1:]


def examples_at(step: int, batch: int, count: int, seed: int, order: int) -> list[int]:
    """The places, of `count`, of the examples that a step reads: each once an epoch, every epoch in another
    order; `order` keeps the random numbers of one use apart from all others.
    """
    numbers_B = step * batch + np.arange(batch, dtype=np.int64)
    epochs_B, places_B = np.divmod(numbers_B, count)
    keys_B = mix(mix(seed_key(seed) + np.uint64(order)) + epochs_B.astype(np.uint64))
    return permute(places_B, count, keys_B).tolist()


def permute(places_E: np.ndarray, size: int, keys_E: np.ndarray) -> np.ndarray:
    """Sends each place in 0 .. size - 1 to another, one to one for each key; int64 places, uint64 keys.

    Written in two digits, of radix a and b with a b >= size, a place goes through rounds that add to one
    digit a random function of the other. A result of `size` or more goes through again until it falls inside.
    """
    a = int(np.ceil(np.sqrt(size)))
    b = -(-size // a)
    places_E = np.asarray(places_E, np.int64).copy()
    outside = np.ones(len(places_E), bool)
    while outside.any():
        keys = keys_E[outside]
        high, low = np.divmod(places_E[outside], b)
        for number in range(ROUNDS):
            if number % 2:
                high = (high + _draw(keys, number, low, a)) % a
            else:
                low = (low + _draw(keys, number, high, b)) % b
        places_E[outside] = high * b + low
        outside = places_E >= size
    return places_E


def _draw(keys_E: np.ndarray, number: int, digit_E: np.ndarray, most: int) -> np.ndarray:
    mixed_E = mix(keys_E + np.uint64(number << 32)) ^ digit_E.astype(np.uint64)
    return (mix(mixed_E) % np.uint64(most)).astype(np.int64)
