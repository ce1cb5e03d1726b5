"""What counting alone achieves: unigram and interpolated trigram models on the same ids as the network's.

Each order is mixed with the one below, down to the uniform distribution (Jelinek & Mercer 1980):
p_n(w | context) = weight * count(context, w) / count(context) + (1 - weight) * p_(n-1)(w | shorter context).
A weight depends on how often its context was seen (in powers of two) and is fitted by expectation
maximisation on the last twentieth of the training tokens, with counts from the rest; the counts then come
from all of them. Nothing is fitted to the validation tokens.

E the n-grams of a text, by the position they end at
"""

from dataclasses import dataclass

import numpy as np

from cutaway.errors import LimitError

HELD_SHARE = 20
ROUNDS = 60
MOST_WEIGHT = 1 - 1e-6  # something always goes down to the uniform distribution
BUCKETS = 64


def unigram_bits(train: np.ndarray, validation: np.ndarray, vocab: int) -> float:
    """Bits to encode every validation token after the first, each on its own frequency in training."""
    return _bits(train, validation, vocab, order=1)


def trigram_bits(train: np.ndarray, validation: np.ndarray, vocab: int) -> float:
    """Bits to encode every validation token after the first, each from the two before it."""
    return _bits(train, validation, vocab, order=3)


@dataclass(frozen=True)
class Counts:
    """How often each n-gram and each of its contexts occurs: sorted keys and their counts."""

    grams: tuple[np.ndarray, np.ndarray]
    contexts: tuple[np.ndarray, np.ndarray]


def _bits(train: np.ndarray, validation: np.ndarray, vocab: int, order: int) -> float:
    held = max(1, len(train) // HELD_SHARE)
    if len(train) < 2 or len(validation) < 2:
        raise LimitError(
            f"{len(train)} training and {len(validation)} validation tokens: 2 of each are needed"
        )
    train, validation = np.asarray(train, np.int64), np.asarray(validation, np.int64)
    counts = [_count(train[:-held], size, vocab) for size in range(1, order + 1)]
    weights = _fit(counts, train[-held - 1 :], vocab)
    counts = [_count(train, size, vocab) for size in range(1, order + 1)]
    below_E = np.full(len(validation) - 1, 1 / vocab)
    for size, (counted, weight) in enumerate(zip(counts, weights, strict=True), start=1):
        frequency_E, bucket_E = _frequencies(counted, validation, size, vocab)
        below_E = weight[bucket_E] * frequency_E + (1 - weight[bucket_E]) * below_E
    return float(-np.log2(below_E).sum())


def _fit(counts: list[Counts], held: np.ndarray, vocab: int) -> list[np.ndarray]:
    """The weights of each order, one for each bucket, that make the held-out tokens most likely."""
    weights = []
    below_E = np.full(len(held) - 1, 1 / vocab)
    for size, counted in enumerate(counts, start=1):
        frequency_E, bucket_E = _frequencies(counted, held, size, vocab)
        members = np.bincount(bucket_E, minlength=BUCKETS)
        weight = np.full(BUCKETS, 0.5)
        for _ in range(ROUNDS):
            from_here_E = weight[bucket_E] * frequency_E
            share_E = from_here_E / (from_here_E + (1 - weight[bucket_E]) * below_E)
            mean = np.bincount(bucket_E, share_E, BUCKETS) / np.maximum(members, 1)
            weight = np.where(members > 0, np.minimum(mean, MOST_WEIGHT), weight)
        # A bucket without examples takes the weight of the next smaller one that has some.
        nearest = np.maximum.accumulate(np.where(members > 0, np.arange(BUCKETS), 0))
        weight = weight[nearest]
        weight[0] = 0.0  # bucket 0: the context was never seen
        weights.append(weight)
        below_E = weight[bucket_E] * frequency_E + (1 - weight[bucket_E]) * below_E
    return weights


def _count(tokens: np.ndarray, size: int, vocab: int) -> Counts:
    keys_E = _keys(tokens, size, vocab)
    return Counts(np.unique(keys_E, return_counts=True), np.unique(keys_E // vocab, return_counts=True))


def _keys(tokens: np.ndarray, size: int, vocab: int) -> np.ndarray:
    """One number for each n-gram of `size` tokens."""
    keys_E = np.zeros(max(0, len(tokens) - size + 1), np.int64)
    for place in range(size):
        keys_E = keys_E * vocab + tokens[place : place + len(keys_E)]
    return keys_E


def _frequencies(counted: Counts, tokens: np.ndarray, size: int, vocab: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each token after the first followed its context in training, and the context's bucket."""
    keys_E = _keys(tokens, size, vocab)
    missing = np.full(max(0, size - 2), -1)  # tokens whose context would begin before the text
    keys_E = np.concatenate([missing, keys_E[1:] if size == 1 else keys_E])[: len(tokens) - 1]
    hits_E, seen_E = _find(counted.grams, keys_E), _find(counted.contexts, keys_E // vocab)
    bucket_E = np.where(seen_E > 0, np.log2(np.maximum(seen_E, 1)).astype(np.int64) + 1, 0)
    return hits_E / np.maximum(seen_E, 1), bucket_E


def _find(counted: tuple[np.ndarray, np.ndarray], keys_E: np.ndarray) -> np.ndarray:
    """The count of each key, 0 where it is absent."""
    known, counts = counted
    if len(known) == 0:
        return np.zeros(len(keys_E), np.int64)
    places_E = np.minimum(np.searchsorted(known, keys_E), len(known) - 1)
    return np.where(known[places_E] == keys_E, counts[places_E], 0)
