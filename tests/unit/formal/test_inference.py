"""Algorithms 14 and 15: greedy against a loop of argmax, sampling against the distribution it should have."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cutaway import formal
from cutaway.errors import ContextLengthError, LimitError
from tests.unit.formal import peers, random_weights

# The value of chi square that chance exceeds once in a thousand, by degrees of freedom.
critical = {3: 16.27, 5: 20.52, 7: 24.32, 15: 37.70}


def check_frequencies(counts, p) -> None:
    counts, p = np.asarray(counts), np.asarray(p)
    expected = p * counts.sum()
    assert expected.min() > 5
    assert ((counts - expected) ** 2 / expected).sum() < critical[len(p) - 1]


def temper(p, tau):
    return torch.from_numpy(np.log(p) / tau).softmax(0).numpy()


p = np.array([0.3, 0.25, 0.15, 0.1, 0.08, 0.06, 0.04, 0.02])


@pytest.mark.parametrize("tau", [0.5, 1.0, 1.7])
def test_sample_draws_from_p_to_the_1_over_tau(tau):
    rng = np.random.default_rng(0)
    counts = np.bincount([formal.sample(p, tau, rng) for _ in range(10_000)], minlength=8)
    check_frequencies(counts, temper(p, tau))
    for mistaken in {0.5, 1.0, 1.7, 1 / tau} - {tau}:
        with pytest.raises(AssertionError):
            check_frequencies(counts, temper(p, mistaken))


def test_a_small_temperature_tends_to_zero():
    rng = np.random.default_rng(0)
    tied = np.array([0.1, 0.4, 0.1, 0.4])
    assert formal.sample(tied, 0, rng) == 1
    assert {formal.sample(tied, 1e-300, rng) for _ in range(50)} == {1, 3}
    assert formal.sample(p, 1e-4, rng) == formal.sample(p, 0, rng) == 0
    assert type(formal.sample(p, 1.0, rng)) is type(formal.sample(p, 0, rng)) is int


@pytest.mark.parametrize("tau", [-1.0, np.inf, np.nan])
def test_other_temperatures_are_refused(tau):
    with pytest.raises(LimitError, match="a temperature is"):
        formal.sample(p, tau, np.random.default_rng(0))


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("seed", range(3))
def test_greedy_continuation_is_argmax(seed, rng):
    model = peers.make_gpt2(seed)
    theta = peers.read_gpt2(model)
    x = [4, 2]
    for _ in range(5):
        x.append(int(peers.run_gpt2(model, x)[-1].argmax()))
    y = formal.DInference([4, 2], theta, 5, 0, rng)
    assert y == x[2:]
    assert all(type(token) is int for token in y)


def test_continuation_has_the_joint_distribution(rng):
    """Two tokens of a vocabulary of 4: P[y1 | x] P[y2 | x y1], each tempered."""
    theta, x, tau = random_weights.draw_D(rng, N_V=4, L=1), [3, 1], 2.0
    draws = [formal.DInference(x, theta, 2, tau, rng) for _ in range(2000)]
    counts = np.bincount([4 * a + b for a, b in draws], minlength=16)
    first = temper(formal.DTransformer(x, theta)[:, -1], tau)
    second = [temper(formal.DTransformer([*x, a], theta)[:, -1], tau) for a in range(4)]
    check_frequencies(counts, np.concatenate([first[a] * second[a] for a in range(4)]))
    stale = temper(formal.DTransformer(x, theta)[:, 0], tau)  # column l - 1 of the paper taken for column l
    with pytest.raises(AssertionError):
        check_frequencies(counts, np.concatenate([stale[a] * second[a] for a in range(4)]))
    with pytest.raises(AssertionError):
        check_frequencies(counts, np.concatenate([first[a] * first for a in range(4)]))


def test_a_prompt_is_needed_and_left_alone(rng):
    theta = random_weights.draw_D(rng, l_max=6)
    with pytest.raises(LimitError, match="prompt x is empty"):
        formal.DInference([], theta, 1, 1.0, rng)
    x = [1, 2]
    assert formal.DInference(x, theta, 0, 1.0, rng) == []
    assert len(formal.DInference(x, theta, 5, 1.0, rng)) == 5  # the last token needs no position
    assert x == [1, 2]
    with pytest.raises(ContextLengthError, match="7 tokens"):
        formal.DInference(x, theta, 6, 1.0, rng)


def ending_soon(rng, **sizes) -> formal.EDTransformerWeights:
    """Random weights with no token too rare, and eos_token's logit 1 above what it would be."""
    theta = random_weights.draw_ED(rng, L_dec=1, **sizes)
    (layer,) = theta.decoder
    W_u = 0.4 * theta.W_u
    one_more = np.linalg.lstsq(W_u, np.eye(len(W_u))[-1])[0]
    return replace(theta, W_u=W_u, decoder=(replace(layer, beta_5=layer.beta_5 + one_more),))


def test_an_answer_runs_from_bos_to_eos(rng):
    N_V = 6
    theta = ending_soon(rng, N_V=N_V, l_max=40)
    lengths = set()
    for _ in range(50):
        x = formal.EDInference([0, 1, 2], theta, 1.0, rng)
        assert x[0] == formal.bos_token(N_V) and x[-1] == formal.eos_token(N_V)
        assert formal.eos_token(N_V) not in x[:-1]
        lengths.add(len(x))
    assert len(lengths) > 3


def test_a_greedy_answer_is_argmax(rng):
    answers = {}
    for seed in range(60):
        model = peers.make_pair(seed, N_V=5, L_enc=1, L_dec=1)
        x, z = [formal.bos_token(5)], [0, 1, 0]
        while x[-1] != formal.eos_token(5) and len(x) < 7:
            x.append(int(model(z, x)[-1].argmax()))
        if x[-1] == formal.eos_token(5):
            assert formal.EDInference(z, peers.read_pair(model), 0, rng) == x
            answers[seed] = len(x)
    assert len(answers) > 5 and max(answers.values()) > 3


def test_an_answer_has_the_distribution_of_its_first_token():
    N_V, tau, rng = 6, 0.5, np.random.default_rng(3)
    theta, z = ending_soon(rng, N_V=N_V, l_max=60), [3, 1]
    firsts = [formal.EDInference(z, theta, tau, rng)[1] for _ in range(400)]
    p = formal.EDTransformer(z, [formal.bos_token(N_V)], theta)[:, 0]
    check_frequencies(np.bincount(firsts, minlength=N_V), temper(p, tau))
    with pytest.raises(AssertionError):
        check_frequencies(np.bincount(firsts, minlength=N_V), p)


def test_an_answer_that_never_ends_is_an_error(rng):
    theta = random_weights.draw_ED(rng, l_max=4)
    (*others, last) = theta.decoder
    endless = replace(last, gamma_5=0 * last.gamma_5, beta_5=-20 * theta.W_u[-1])
    with pytest.raises(ContextLengthError, match="5 tokens, but the model has positions for 4"):
        formal.EDInference([0], replace(theta, decoder=(*others, endless)), 1.0, rng)
