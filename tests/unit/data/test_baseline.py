"""The counting baselines against a brute-force reading of the same definition, and on texts with known
entropy.
"""

import math
import time
from collections import Counter

import numpy as np
import pytest

from cutaway.data import baseline
from cutaway.data.baseline import trigram_bits, unigram_bits
from cutaway.errors import LimitError


def markov_text(count: int, seed: int, vocab: int = 12, order: int = 2) -> np.ndarray:
    """Text in which each token depends on the two before it."""
    draw = np.random.default_rng(seed)
    table = np.random.default_rng(7).dirichlet(np.full(vocab, 0.2), size=(vocab,) * order)
    text = list(draw.integers(0, vocab, order))
    for _ in range(count):
        text.append(int(draw.choice(vocab, p=table[tuple(text[-order:])])))
    return np.array(text)


def slow_bits(train: list[int], validation: list[int], vocab: int, order: int, weights) -> float:
    """The definition, one token at a time, with given weights."""
    grams = [Counter(tuple(train[i : i + n]) for i in range(len(train) - n + 1)) for n in range(1, order + 1)]
    total = 0.0
    for position in range(1, len(validation)):
        p = 1 / vocab
        for n in range(1, order + 1):
            if position - n + 1 < 0:
                continue
            gram = tuple(validation[position - n + 1 : position + 1])
            seen = sum(count for other, count in grams[n - 1].items() if other[:-1] == gram[:-1])
            if seen:
                weight = weights[n - 1][int(math.log2(seen)) + 1]
                p = weight * grams[n - 1][gram] / seen + (1 - weight) * p
        total -= math.log2(p)
    return total


@pytest.mark.parametrize("order", [1, 3])
def test_bits_equal_the_definition_computed_slowly(order, monkeypatch):
    text, vocab = markov_text(700, 0), 12
    train, validation = text[:600], text[600:]
    used = []
    fit = baseline._fit
    monkeypatch.setattr(baseline, "_fit", lambda *arguments: used.append(fit(*arguments)) or used[0])
    found = (unigram_bits if order == 1 else trigram_bits)(train, validation, vocab)
    expected = slow_bits(train.tolist(), validation.tolist(), vocab, order, used[0])
    assert found == pytest.approx(expected, rel=1e-12)
    # negative control: other weights, other bits
    halves = [np.full(64, 0.5) for _ in used[0]]
    assert found != pytest.approx(
        slow_bits(train.tolist(), validation.tolist(), vocab, order, halves), rel=1e-6
    )


def test_the_trigram_comes_near_the_entropy_of_a_second_order_source():
    text = markov_text(60_000, 1)
    train, validation = text[:50_000], text[50_000:]
    table = np.random.default_rng(7).dirichlet(np.full(12, 0.2), size=(12, 12))
    best = -sum(
        math.log2(table[a, b, c]) for a, b, c in zip(validation, validation[1:], validation[2:], strict=False)
    )
    assert best < trigram_bits(train, validation, 12) < 1.05 * best
    assert unigram_bits(train, validation, 12) > 1.5 * best


def test_probabilities_sum_to_one():
    """The bits of every possible next token, given one context, are those of a distribution."""
    train, vocab = markov_text(400, 2), 12
    for context in ([3, 4], [11, 0], [5, 5]):
        before = trigram_bits(train, np.array(context), vocab)
        masses = [
            2 ** (before - trigram_bits(train, np.array([*context, token]), vocab)) for token in range(vocab)
        ]
        assert sum(masses) == pytest.approx(1, abs=1e-9)


def test_tokens_never_seen_in_training_cost_bits_but_not_infinitely_many():
    bits = trigram_bits(np.zeros(1_000, np.uint16), np.array([0, 7, 9, 0], np.uint16), 4_096)
    assert math.isfinite(bits) and bits > 20


def test_weights_come_from_training_alone(monkeypatch):
    train = markov_text(2_000, 3)
    seen = []
    fit = baseline._fit
    monkeypatch.setattr(baseline, "_fit", lambda *arguments: seen.append(fit(*arguments)) or seen[-1])
    for seed in (4, 5):
        trigram_bits(train, markov_text(300, seed), 12)
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))


def test_too_few_tokens():
    for train, validation in ((1, 5), (5, 1), (0, 0)):
        with pytest.raises(LimitError, match="2 of each"):
            unigram_bits(np.zeros(train, int), np.zeros(validation, int), 4)
    assert trigram_bits(np.array([0, 1]), np.array([0, 1]), 2) > 0


def test_millions_of_tokens_take_seconds():
    draw = np.random.default_rng(0)
    train = (draw.zipf(1.3, 1_000_000) % 4_096).astype(np.uint16)
    started = time.process_time()
    trigram_bits(train, train[:100_000], 4_096)
    assert time.process_time() - started < 6
