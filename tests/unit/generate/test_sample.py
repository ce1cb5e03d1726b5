"""Filters against transformers' logits processors, draws against chi-square, random numbers against their
promise.
"""

import math
from dataclasses import fields

import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from cutaway.errors import ConfigError, CutawayError, LimitError
from cutaway.generate import sample
from cutaway.generate.sample import Sampler, Sampling, draw, narrow, penalise, uniform


def random_logits(rows: int, vocab: int, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    return (
        torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread
    )


def theirs(sampling: Sampling, logits_BV: torch.Tensor) -> torch.Tensor:
    """What transformers makes of the logits, in the order of its `generate`."""
    chain = LogitsProcessorList([TemperatureLogitsWarper(float(sampling.temperature))])
    if sampling.top_k is not None:
        chain.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p is not None:
        chain.append(TopPLogitsWarper(sampling.top_p))
    if sampling.min_p is not None:
        chain.append(MinPLogitsWarper(sampling.min_p))
    return chain(torch.zeros(len(logits_BV), 1, dtype=torch.long), logits_BV.clone())


SETTINGS = [
    Sampling(temperature=0.7),
    Sampling(temperature=3.0),
    *(Sampling(top_k=k) for k in (1, 2, 7, 50, 5000)),
    *(Sampling(top_p=p) for p in (1e-6, 0.1, 0.5, 0.9, 0.999, 1.0)),
    *(Sampling(min_p=p) for p in (0.0, 0.01, 0.2, 1.0)),
    Sampling(temperature=0.8, top_k=20, top_p=0.9, min_p=0.05),
    Sampling(temperature=2.0, top_k=40, top_p=0.5),
    Sampling(temperature=1.5, top_p=0.95, min_p=0.1),
]


@pytest.mark.parametrize("sampling", SETTINGS, ids=str)
@pytest.mark.parametrize("vocab", [11, 300, 3000])
def test_filters_keep_what_transformers_keeps(sampling, vocab):
    logits_BV = random_logits(6, vocab)
    ours_BV, theirs_BV = narrow(logits_BV, sampling), theirs(sampling, logits_BV)
    assert torch.equal(ours_BV.isneginf(), theirs_BV.isneginf())
    torch.testing.assert_close(ours_BV.softmax(-1), theirs_BV.softmax(-1), rtol=1e-10, atol=1e-15)


def test_a_filter_off_by_one_token_would_be_noticed(monkeypatch):
    keep_top = sample.keep_top
    monkeypatch.setattr(sample, "keep_top", lambda logits_BV, count: keep_top(logits_BV, count + 1))
    sampling, logits_BV = Sampling(top_k=7), random_logits(6, 300)
    assert not torch.equal(narrow(logits_BV, sampling).isneginf(), theirs(sampling, logits_BV).isneginf())


def test_a_nucleus_larger_than_the_first_look_is_exact():
    logits_BV = random_logits(2, 5000, spread=0.1)
    kept = narrow(logits_BV, Sampling(top_p=0.9)).isfinite().sum(-1)
    assert (kept > sample.NUCLEUS_FIRST).all()
    expected = theirs(Sampling(top_p=0.9), logits_BV).isfinite().sum(-1)
    assert torch.equal(kept, expected)


@pytest.mark.parametrize("penalty", [0.5, 1.3, 2.0])
def test_repetition_penalty_is_transformers_own(penalty):
    logits_BV, said_BL = random_logits(4, 50), torch.randint(50, (4, 9))
    said_BV = torch.zeros(4, 50, dtype=torch.bool).scatter(1, said_BL, True)
    expected = RepetitionPenaltyLogitsProcessor(penalty)(said_BL, logits_BV.clone())
    torch.testing.assert_close(penalise(logits_BV, said_BV, penalty), expected, rtol=0, atol=0)


def test_the_penalty_counts_the_prompt_and_every_token_drawn():
    sampler = Sampler(Sampling(0, repetition_penalty=100.0), [0], [[3]], vocab=5)
    logits_BV = torch.tensor([[1.0, 5.0, 3.0, 9.0, 4.0]])
    assert [int(sampler.choose(logits_BV)[0]) for _ in range(3)] == [1, 4, 2]


def test_temperature_zero_takes_the_most_likely_and_tells_its_own_log_probability():
    logits_BV = random_logits(5, 40)
    tokens_B, log_probability_B = Sampler(Sampling(0, top_k=3, seed=1), range(5), [[]] * 5, 40).choose(
        logits_BV
    )
    assert torch.equal(tokens_B, logits_BV.argmax(-1))
    torch.testing.assert_close(log_probability_B, logits_BV.log_softmax(-1).amax(-1))


def test_log_probabilities_are_those_before_temperature_and_filters():
    logits_BV = random_logits(8, 40)
    sampler = Sampler(Sampling(2.0, top_k=5, repetition_penalty=3.0, seed=1), range(8), [[1, 2]] * 8, 40)
    tokens_B, log_probability_B = sampler.choose(logits_BV)
    torch.testing.assert_close(log_probability_B, logits_BV.log_softmax(-1)[range(8), tokens_B])


def test_ids_beyond_the_tokenizer_are_never_chosen():
    logits_BV = torch.tensor([[0.0, 1.0, 2.0, 50.0]])
    for temperature in (0, 1.0):
        sampler = Sampler(Sampling(temperature, seed=0), [0], [[]], vocab=3)
        assert all(int(sampler.choose(logits_BV)[0]) < 3 for _ in range(50))


def chi_square_tail(value: float, freedom: int) -> float:
    """The probability of a larger chi-square value (Wilson & Hilferty 1931)."""
    z = ((value / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    return 0.5 * math.erfc(z / math.sqrt(2))


def tail_of(drawn: torch.Tensor, probability_V: torch.Tensor) -> float:
    expected_V = probability_V * len(drawn)
    counts_V = torch.bincount(drawn, minlength=len(probability_V))
    assert (expected_V[expected_V > 0] > 5).all() and not counts_V[probability_V == 0].any()
    inside = expected_V > 0
    chi_square = ((counts_V - expected_V).square()[inside] / expected_V[inside]).sum()
    return chi_square_tail(float(chi_square), int(inside.sum()) - 1)


@pytest.mark.parametrize("numbered", ["by row", "by count", "by seed"])
def test_draws_follow_the_distribution(numbered):
    draws, V = 100_000, 12
    logits_V = torch.linspace(-2, 2, V, dtype=torch.float64)
    sampling = Sampling(temperature=0.9, top_k=9)
    narrowed_V = narrow(logits_V[None], sampling)[0]
    keys = {"by row": lambda i: (7, i, 3), "by count": lambda i: (7, 3, i), "by seed": lambda i: (i, 0, 0)}
    uniform_B = torch.tensor([uniform(*keys[numbered](i)) for i in range(draws)], dtype=torch.float64)
    drawn = draw(narrowed_V.expand(draws, V), uniform_B)
    assert tail_of(drawn, narrowed_V.softmax(-1)) > 1e-4
    other_V = narrow(logits_V[None], Sampling(temperature=0.92, top_k=9))[0].softmax(-1)
    assert tail_of(drawn, other_V) < 1e-4  # the control: a little warmer is told apart


def test_successive_draws_of_a_row_are_independent():
    """Chi-square over pairs of neighbouring draws."""
    draws, V = 60_000, 5
    logits_BV = torch.zeros(draws, V, dtype=torch.float64)
    first = draw(logits_BV, torch.tensor([uniform(0, 0, 2 * i) for i in range(draws)], dtype=torch.float64))
    second = draw(
        logits_BV, torch.tensor([uniform(0, 0, 2 * i + 1) for i in range(draws)], dtype=torch.float64)
    )
    assert tail_of(first * V + second, torch.full((V * V,), 1 / V**2)) > 1e-4


@pytest.mark.parametrize("number", [0.0, 0.5, 1 - 2**-53])
def test_tokens_without_probability_are_never_drawn(number):
    logits_BV = torch.tensor([[-math.inf, 0.0, -math.inf, 1.0, -math.inf]], dtype=torch.float64)
    assert int(draw(logits_BV, torch.tensor([number], dtype=torch.float64))) in (1, 3)
    one = torch.full((1, 9), -math.inf)
    one[0, 4] = 0.0
    assert int(draw(one, torch.tensor([number], dtype=torch.float64))) == 4


def test_a_row_draws_the_same_alone_and_in_any_batch():
    logits_BV = random_logits(6, 30)
    sampling = Sampling(seed=5)
    together = Sampler(sampling, range(6), [[]] * 6, 30)
    drawn = torch.stack([together.choose(logits_BV)[0] for _ in range(20)], dim=1)
    for row in range(6):
        alone = Sampler(sampling, [row], [[]], 30)
        assert [int(alone.choose(logits_BV[row : row + 1])[0]) for _ in range(20)] == drawn[row].tolist()
    shrinking = Sampler(sampling, range(6), [[]] * 6, 30)
    head = [shrinking.choose(logits_BV)[0].tolist() for _ in range(5)]
    shrinking.keep([4, 1])
    tail = [shrinking.choose(logits_BV[[4, 1]])[0].tolist() for _ in range(15)]
    assert [row[4] for row in head] + [row[0] for row in tail] == drawn[4].tolist()
    assert len({tuple(row) for row in drawn.tolist()}) == 6  # the control: rows differ


def test_nobody_elses_generator_moves():
    before = torch.random.get_rng_state()
    Sampler(Sampling(), range(3), [[]] * 3, 30).choose(random_logits(3, 30))
    assert torch.equal(before, torch.random.get_rng_state())


def test_without_a_seed_every_call_differs():
    assert Sampling().seeded().seed != Sampling().seeded().seed
    assert Sampling(seed=3).seeded() == Sampling(seed=3)


@pytest.mark.parametrize("bad", [math.nan, math.inf, "all minus infinity"])
def test_logits_that_are_not_finite_are_an_error_and_never_token_0(bad):
    logits_BV = torch.full((2, 4), -math.inf)
    if not isinstance(bad, str):
        logits_BV[:] = 0.0
        logits_BV[1, 2] = bad
    for sampling in (Sampling(0), Sampling(1.0, top_k=2, top_p=0.5, min_p=0.1)):
        with pytest.raises(CutawayError, match="not finite"):
            Sampler(sampling, range(2), [[]] * 2, 4).choose(logits_BV)


OUT_OF_RANGE = [
    *(("temperature", value) for value in (-1.0, math.nan, math.inf, -math.inf, 1e-9, 101.0)),
    *(("top_k", value) for value in (0, -1, 2**31)),
    *(("top_p", value) for value in (0.0, -0.1, 1.0001, math.nan, math.inf)),
    *(("min_p", value) for value in (-0.1, 1.1, math.nan)),
    *(("repetition_penalty", value) for value in (0.0, -1.0, math.nan, math.inf, 1e9)),
    *(("seed", value) for value in (-1, 2**63)),
]
WRONG_TYPE = [
    *((field.name, value) for field in fields(Sampling) for value in ("1", True, [1], {}, 1j)),
    *((name, None) for name in ("temperature", "repetition_penalty")),
    *(("top_k", value) for value in (1.0, math.nan)),
    *(("seed", value) for value in (1.0, math.nan)),
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE, ids=str)
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(LimitError, match=f"^{name} .*must be .*from"):
        Sampling(**{name: value})


@pytest.mark.parametrize(("name", "value"), WRONG_TYPE, ids=str)
def test_values_of_a_wrong_type_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"^{name} .*must be a"):
        Sampling(**{name: value})


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": 0},
        {"temperature": 0.001},
        {"temperature": 100},
        {"top_p": 1},
        {"min_p": 0},
        {"seed": 2**63 - 1},
        {"top_k": 1},
    ],
    ids=str,
)
def test_the_edges_are_allowed(given):
    sampler = Sampler(Sampling(**given), range(2), [[]] * 2, 9)
    assert sampler.choose(random_logits(2, 9, spread=1e4))[0].shape == (2,)
