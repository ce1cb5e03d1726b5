"""Algorithms 3, 4 and 5 against torch's attention and einsum, with every mask of small grids."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from cutaway import formal
from tests.unit.formal.random_weights import draw_heads

d_x, d_z, d_attn, d_out = 5, 4, 3, 6


def every_mask(l_z, l_x):
    for bits in product((0, 1), repeat=l_z * l_x):
        yield np.array(bits).reshape(l_z, l_x)


def draw(l_x, l_z, seed=0, gain=1.0):
    """X, Z and one head; a large gain makes large scores."""
    rng = np.random.default_rng(seed)
    (W,) = draw_heads(rng, 1, d_x, d_z, d_attn, d_out, d_out).heads
    return rng.normal(size=(d_x, l_x)), rng.normal(size=(d_z, l_z)), replace(W, W_q=W.W_q * gain)


def torch_attention(X, Z, W, Mask):
    """The same in torch's layout: tokens are rows, and so the mask is [query, key]."""
    q = torch.from_numpy((W.W_q @ X + W.b_q[:, None]).T)
    k = torch.from_numpy((W.W_k @ Z + W.b_k[:, None]).T)
    v = torch.from_numpy((W.W_v @ Z + W.b_v[:, None]).T)
    mask = torch.from_numpy(Mask.T.astype(bool))
    return scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask)[0].numpy().T


def check(attention, X, Z, W, Mask) -> None:
    ours, theirs, seen = attention(X, Z, W, Mask), torch_attention(X, Z, W, Mask), Mask.any(axis=0)
    np.testing.assert_allclose(ours[:, seen], theirs[:, seen], rtol=0, atol=1e-10)
    np.testing.assert_array_equal(ours[:, ~seen], 0)


@pytest.mark.parametrize("l_x", [1, 2, 3])
@pytest.mark.parametrize("l_z", [1, 2, 3])
def test_attention_with_every_mask(l_x, l_z):
    X, Z, W = draw(l_x, l_z)
    for Mask in every_mask(l_z, l_x):
        check(formal.Attention, X, Z, W, Mask)


def attention_made_of(
    *, fill=-np.inf, scale=None, transpose=False, weigh=formal.softmax, sees=lambda Mask: Mask
):
    """Algorithm 4 again, with room for each of the usual mistakes."""

    def attention(X, Z, W, Mask):
        Q, K, V = (
            A @ T + b[:, None] for A, T, b in ((W.W_q, X, W.b_q), (W.W_k, Z, W.b_k), (W.W_v, Z, W.b_v))
        )
        S = np.where(sees(Mask), K.T @ Q, fill)
        S = S / (scale or np.sqrt(d_attn))
        return V @ (weigh(S.T).T if transpose else weigh(S))

    return attention


def softmax_without_care(S):
    with np.errstate(invalid="ignore"):
        E = np.exp(S - S.max(axis=0))
        return E / E.sum(axis=0)


mistakes = {
    "-1000 for -inf": attention_made_of(fill=-1000.0),
    "0 for -inf": attention_made_of(fill=0.0),
    "scale by the width of the model": attention_made_of(scale=np.sqrt(d_x)),
    "scale by the width of the values": attention_made_of(scale=np.sqrt(d_out)),
    "no scale": attention_made_of(scale=1.0),
    "scale not under a root": attention_made_of(scale=float(d_attn)),
    "softmax over rows": attention_made_of(transpose=True),
    "mask transposed": attention_made_of(sees=lambda Mask: Mask.T),
    "mask means hidden": attention_made_of(sees=lambda Mask: 1 - Mask),
    "hidden columns are not a number": attention_made_of(weigh=softmax_without_care),
}


@pytest.mark.parametrize("mistake", [None, *mistakes])
def test_a_planted_mistake_is_caught(mistake):
    def check_every_mask(attention):
        for gain in (1, 3000):  # small scores tell one scale from another, large ones -1000 from -inf
            X, Z, W = draw(3, 3, gain=gain)
            for Mask in every_mask(3, 3):
                check(attention, X, Z, W, Mask)

    if mistake is None:
        check_every_mask(formal.Attention)
        check_every_mask(attention_made_of())  # without a mistake, the copy passes
    else:
        with pytest.raises(AssertionError):
            check_every_mask(mistakes[mistake])


def test_minus_1000_looks_right_until_scores_are_large():
    """Why the mistake lives on: with small scores exp(-1000) is 0, save where a column sees nothing."""
    X, Z, W = draw(3, 3)
    check(mistakes["-1000 for -inf"], X, Z, W, formal.unidirectional(3))
    with pytest.raises(AssertionError):
        check(mistakes["-1000 for -inf"], X, Z, W, np.zeros((3, 3)))
    X, Z, W = draw(3, 3, seed=1, gain=3000)
    with pytest.raises(AssertionError):
        check(mistakes["-1000 for -inf"], X, Z, W, formal.unidirectional(3))


def test_a_column_that_sees_nothing_is_zero():
    X, Z, W = draw(4, 3)
    Mask = formal.bidirectional(3, 4)
    Mask[:, 2] = 0
    V = formal.Attention(X, Z, W, Mask)
    np.testing.assert_array_equal(V[:, 2], 0)
    np.testing.assert_allclose(
        np.delete(V, 2, axis=1), formal.Attention(np.delete(X, 2, axis=1), Z, W, np.delete(Mask, 2, axis=1))
    )
    np.testing.assert_array_equal(formal.Attention(X, Z[:, :0], W, Mask[:0]), 0)  # nor with no context at all


def test_large_scores_do_not_overflow():
    X, Z, W = draw(3, 4, gain=1e6)
    assert np.isfinite(formal.Attention(X, Z, W, formal.bidirectional(4, 3))).all()


@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (1, 3), (4, 1)])
def test_a_mask_of_another_shape_is_refused(shape):
    X, Z, W = draw(3, 4)
    with pytest.raises(IndexError):
        formal.Attention(X, Z, W, np.ones(shape))


def test_the_masks():
    np.testing.assert_array_equal(formal.bidirectional(2, 3), [[1, 1, 1], [1, 1, 1]])
    np.testing.assert_array_equal(formal.unidirectional(3), [[1, 1, 1], [0, 1, 1], [0, 0, 1]])
    assert formal.unidirectional(0).shape == (0, 0)


@pytest.mark.parametrize("l_z", [0, 1, 4])
def test_a_single_query_is_a_column_of_attention(l_z):
    X, Z, W = draw(3, l_z)
    W = replace(W, W_q=W.W_q[:, :d_z])  # algorithm 3 has one d_in
    V = formal.Attention(X[:d_z], Z, W, formal.bidirectional(l_z, 3))
    for t in range(3):
        v = formal.basic_single_query_attention(X[:d_z, t], [Z[:, t_z] for t_z in range(l_z)], W)
        np.testing.assert_allclose(v, V[:, t], rtol=0, atol=1e-12)


def test_the_key_bias_changes_nothing():
    """It adds q . b_k to every score of a column, and softmax sees differences only. b_q and b_v matter."""
    X, Z, W = draw(3, 4)
    Mask = formal.bidirectional(4, 3)
    V = formal.Attention(X, Z, W, Mask)
    np.testing.assert_allclose(formal.Attention(X, Z, replace(W, b_k=0 * W.b_k), Mask), V, rtol=0, atol=1e-12)
    assert not np.allclose(formal.Attention(X, Z, replace(W, b_q=0 * W.b_q), Mask), V)
    assert not np.allclose(formal.Attention(X, Z, replace(W, b_v=0 * W.b_v), Mask), V)


# Algorithm 5 ------------------------------------------------------------------------------------------------


def einsum_heads(X, Z, W, Mask):
    """All heads at once, tokens in rows; a stack over heads, and W_o cut into (d_out, H, d_mid)."""
    q, k, v = (
        np.einsum("had,dt->hta", np.stack([getattr(head, f"W_{name}") for head in W.heads]), T)
        + np.stack([getattr(head, f"b_{name}") for head in W.heads])[:, None]
        for name, T in (("q", X), ("k", Z), ("v", Z))
    )
    mask = torch.from_numpy(Mask.T.astype(bool))
    mix = scaled_dot_product_attention(*(torch.from_numpy(a) for a in (q, k, v)), attn_mask=mask).numpy()
    mix[:, ~Mask.any(axis=0)] = 0
    W_o = W.W_o.reshape(W.W_o.shape[0], len(W.heads), -1)
    return np.einsum("ohm,htm->ot", W_o, mix) + W.b_o[:, None]


@pytest.mark.parametrize("H", [1, 2, 4])
@pytest.mark.parametrize("d_mid", [2, 3, 5])
def test_heads_with_every_mask(H, d_mid):
    rng = np.random.default_rng(H)
    W = draw_heads(rng, H, d_x, d_z, d_attn, d_mid, d_out)
    for l_z, l_x in ((2, 3), (3, 2), (1, 4)):
        X, Z = rng.normal(size=(d_x, l_x)), rng.normal(size=(d_z, l_z))
        for Mask in every_mask(l_z, l_x):
            V = formal.MHAttention(X, Z, W, Mask)
            np.testing.assert_allclose(V, einsum_heads(X, Z, W, Mask), rtol=0, atol=1e-10)
            hidden = ~Mask.any(axis=0)
            np.testing.assert_array_equal(V[:, hidden], np.tile(W.b_o[:, None], hidden.sum()))


def test_output_projection_is_H_d_mid_wide():
    """Not H d_attn, which a model with d_mid = d_attn does not tell apart."""
    rng = np.random.default_rng(0)
    W = draw_heads(rng, 2, d_x, d_z, d_attn=3, d_mid=4, d_out=d_out)
    X, Z, Mask = rng.normal(size=(d_x, 3)), rng.normal(size=(d_z, 2)), formal.bidirectional(2, 3)
    assert formal.MHAttention(X, Z, W, Mask).shape == (d_out, 3)
    with pytest.raises(ValueError, match="matmul"):
        formal.MHAttention(X, Z, replace(W, W_o=rng.normal(size=(d_out, 2 * 3))), Mask)


def test_heads_that_share_keys_and_values_are_grouped_attention():
    """Grouped and multi-query attention are algorithm 5 with the same keys and values in several heads."""
    rng = np.random.default_rng(0)
    W = draw_heads(rng, 4, d_x, d_x, d_attn, 4, d_out)
    own = W.heads
    shared = [
        replace(own[h], **{n: getattr(own[h - h % 2], n) for n in ("W_k", "b_k", "W_v", "b_v")})
        for h in range(4)
    ]
    X = rng.normal(size=(d_x, 3))
    Mask = formal.unidirectional(3)
    q, k, v = (
        torch.from_numpy(
            np.stack([(getattr(h, f"W_{n}") @ X + getattr(h, f"b_{n}")[:, None]).T for h in heads])[None]
        )
        for n, heads in (("q", own), ("k", own[::2]), ("v", own[::2]))
    )
    mix = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)[0].transpose(0, 1).flatten(1)
    expected = W.W_o @ mix.numpy().T + W.b_o[:, None]
    V = formal.MHAttention(X, X, replace(W, heads=tuple(shared)), Mask)
    np.testing.assert_allclose(V, expected, rtol=0, atol=1e-10)
    assert not np.allclose(formal.MHAttention(X, X, W, Mask), expected)
