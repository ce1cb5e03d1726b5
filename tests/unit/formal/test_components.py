"""Algorithms 1, 2, 6 and 7, and the nonlinearities, against torch and the paper's formulas entry by entry."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cutaway import formal
from cutaway.errors import ConfigError, ContextLengthError, LimitError

e = np.array([3.0, -1.0, 4.0, 1.5, 9.0])
gamma, beta = np.array([1.0, 0.5, -2.0, 0.3, 1.1]), np.array([0.1, 0.0, -1.0, 2.0, 0.7])


def test_embeddings_are_columns():
    W = np.arange(12.0).reshape(3, 4)
    np.testing.assert_array_equal(formal.token_embedding(2, W), [2, 6, 10])
    np.testing.assert_array_equal(formal.positional_embedding(2, W), [2, 6, 10])
    np.testing.assert_array_equal(formal.embed([2, 0], W, 10 * W), [[2, 10], [46, 54], [90, 98]])
    assert formal.embed([], W, W).shape == (3, 0)


@pytest.mark.parametrize("outside", [-1, 4])
def test_what_is_outside_is_refused(outside):
    W = np.zeros((3, 4))
    with pytest.raises(LimitError, match=r"not in the vocabulary 0 \.\. 3"):
        formal.token_embedding(outside, W)
    with pytest.raises(ContextLengthError):
        formal.positional_embedding(outside, W)


def test_special_tokens_are_the_last_three():
    N_V = 10
    ours = [formal.mask_token(N_V), formal.bos_token(N_V), formal.eos_token(N_V)]
    assert [token + 1 for token in ours] == [N_V - 2, N_V - 1, N_V]  # the paper's, which count from 1


def check_positions(W_p, d_e, l_max):
    """The paper's formula with the paper's indices, which begin at 1."""
    assert W_p.shape == (d_e, l_max)
    for i in range(1, d_e // 2 + 1):
        for t in range(1, l_max + 1):
            angle = t / l_max ** (2 * i / d_e)
            assert W_p[(2 * i - 1) - 1, t - 1] == pytest.approx(math.sin(angle), abs=1e-12)
            assert W_p[2 * i - 1, t - 1] == pytest.approx(math.cos(angle), abs=1e-12)


def sinusoids(d_e, l_max, base, first_i, first_t):
    i, t = np.arange(d_e // 2)[:, None] + first_i, np.arange(l_max) + first_t
    angle = t / base ** (2 * i / d_e)
    return np.stack([np.sin(angle), np.cos(angle)], axis=1).reshape(d_e, l_max)


def test_hard_coded_positions():
    check_positions(formal.hard_coded_positional_embedding(6, 9), 6, 9)
    check_positions(sinusoids(6, 9, base=9, first_i=1, first_t=1), 6, 9)
    for mistaken in ({"base": 10000}, {"first_i": 0}, {"first_t": 0}):
        with pytest.raises(AssertionError):
            check_positions(sinusoids(6, 9, **{"base": 9, "first_i": 1, "first_t": 1} | mistaken), 6, 9)
    with pytest.raises(ConfigError, match=r"d_e = 5: .* must be even"):
        formal.hard_coded_positional_embedding(5, 9)


def check_layer_norm(layer_norm):
    theirs = functional.layer_norm(torch.from_numpy(e), (5,), eps=0.0).numpy() * gamma + beta
    np.testing.assert_allclose(layer_norm(e, gamma, beta), theirs, rtol=0, atol=1e-12)
    tiny = np.array([1e-8, -1e-8])  # smaller than any epsilon, and still normalised to +-1
    np.testing.assert_allclose(layer_norm(tiny, np.ones(2), np.zeros(2)), [1, -1], rtol=0, atol=1e-12)


def test_layer_norm():
    check_layer_norm(formal.layer_norm)
    for ddof, epsilon in ((1, 0), (0, 1e-5), (0, 1e-12)):
        with pytest.raises(AssertionError):
            check_layer_norm(
                lambda e, gamma, beta, ddof=ddof, epsilon=epsilon: (
                    (e - e.mean()) / np.sqrt(e.var(ddof=ddof) + epsilon) * gamma + beta
                )
            )


def test_RMSnorm_is_layer_norm_with_m_and_beta_0():
    theirs = functional.rms_norm(torch.from_numpy(e), (5,), torch.from_numpy(gamma), eps=0.0).numpy()
    np.testing.assert_allclose(formal.RMSnorm(e, gamma), theirs, rtol=0, atol=1e-12)
    centred = e - e.mean()
    np.testing.assert_allclose(
        formal.RMSnorm(centred, gamma), formal.layer_norm(e, gamma, 0 * beta), atol=1e-12
    )
    assert not np.allclose(formal.RMSnorm(e, gamma), formal.layer_norm(e, gamma, 0 * beta))


def test_a_constant_vector_has_no_norm():
    with pytest.warns(RuntimeWarning, match="invalid value"):
        assert np.isnan(formal.layer_norm(np.ones(3), np.ones(3), np.zeros(3))).all()


def test_norm_goes_over_columns():
    X = np.random.default_rng(0).normal(size=(5, 3))
    normed = formal.layer_norm_columns(X, gamma, beta)
    for t in range(3):
        np.testing.assert_array_equal(normed[:, t], formal.layer_norm(X[:, t], gamma, beta))


def test_unembedding_is_a_distribution():
    W_u = np.random.default_rng(0).normal(size=(7, 5))
    p = formal.unembedding(e, W_u)
    np.testing.assert_allclose(p, torch.from_numpy(W_u @ e).softmax(0).numpy(), rtol=0, atol=1e-14)


def test_softmax_goes_down_each_column():
    A = np.random.default_rng(0).normal(size=(3, 4)) * 100
    np.testing.assert_allclose(formal.softmax(A), torch.from_numpy(A).softmax(0).numpy(), rtol=0, atol=1e-14)
    assert not np.allclose(formal.softmax(A), torch.from_numpy(A).softmax(1).numpy())
    A[:, 1], A[0, 2], A[1, 3] = -np.inf, -np.inf, 1e4
    p = formal.softmax(A)
    np.testing.assert_array_equal(p[:, 1], 0)
    np.testing.assert_array_equal(p[:, 3], [0, 1, 0])
    assert p[0, 2] == 0 and p[1:, 2].sum() == pytest.approx(1)
    assert formal.softmax(np.zeros((0, 4))).shape == (0, 4)


def test_nonlinearities():
    x = np.linspace(-6, 6, 101)
    theirs = torch.from_numpy(x)
    np.testing.assert_array_equal(formal.ReLU(x), functional.relu(theirs).numpy())
    np.testing.assert_allclose(formal.GELU(x), functional.gelu(theirs).numpy(), rtol=0, atol=1e-14)
    rough = functional.gelu(theirs, approximate="tanh").numpy()
    assert np.abs(formal.GELU(x) - rough).max() > 1e-4


def test_every_algorithm_has_its_number():
    assert list(formal.algorithms) == list(range(1, 16))
    for number, algorithm in formal.algorithms.items():
        assert algorithm.__doc__.startswith(f"Algorithm {number}: ")
        assert f"{number} {algorithm.__name__}" in formal.__doc__
        assert getattr(formal, algorithm.__name__) is algorithm
    assert all(hasattr(formal, name) for name in formal.__all__)
