"""Algorithms 8, 9 and 10 against torch.nn, BERT and GPT-2, and the mistakes such a check has to catch."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

from cutaway import formal
from cutaway.errors import ContextLengthError, LimitError
from tests.unit.formal import peers, random_weights

Z, X = [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8]


def check(P: np.ndarray, logits) -> None:
    """log P, column by column, is what the peer says row by row."""
    np.testing.assert_allclose(np.log(P), logits.log_softmax(-1).detach().numpy().T, rtol=0, atol=1e-10)


def check_ED(seed: int = 0, **sizes) -> None:
    model = peers.make_pair(seed, **sizes)
    check(formal.EDTransformer(Z, X, peers.read_pair(model)), model(Z, X))


def check_E(seed: int = 0, **sizes) -> None:
    model = peers.make_bert(seed, **sizes)
    check(formal.ETransformer(X, peers.read_bert(model)), peers.run_bert(model, X))


def check_D(seed: int = 0, **sizes) -> None:
    model = peers.make_gpt2(seed, **sizes)
    check(formal.DTransformer(X, peers.read_gpt2(model)), peers.run_gpt2(model, X))


checks = {"ED": check_ED, "E": check_E, "D": check_D}


@pytest.mark.parametrize("H", [1, 2, 4])
@pytest.mark.parametrize("name", checks)
def test_equals_the_peer(name, H):
    checks[name](seed=H, H=H)


def plant_norm(statistics):
    """A layer_norm that takes something else for its (mean, variance)."""

    def mistaken(e, gamma, beta):
        m, v = statistics(e)
        return (e - m) / np.sqrt(v) * gamma + beta

    return "norm.layer_norm", mistaken


def plant_mask(change):
    right = formal.Attention
    return "attention.Attention", lambda X, Z, W, Mask: right(X, Z, W, change(Mask))


def scale_by_model_width(X, Z, W, Mask):
    too_small = np.sqrt(len(W.b_q) / len(X))
    return formal.Attention(X, Z, replace(W, W_q=W.W_q * too_small, b_q=W.b_q * too_small), Mask)


def merge_heads_by_view(X, Z, W, Mask):
    """[heads, tokens, d_mid] read as [tokens, heads * d_mid] without exchanging the first two axes."""
    Y = np.stack([formal.Attention(X, Z, W_h, Mask).T for W_h in W.heads])
    return W.W_o @ Y.reshape(X.shape[1], -1).T + W.b_o[:, None]


right_embed, right_norm = formal.embed, formal.layer_norm_columns
mistakes = {
    "unbiased variance": plant_norm(lambda e: (e.mean(), e.var(ddof=1))),
    "epsilon": plant_norm(lambda e: (e.mean(), e.var() + 1e-5)),
    "no mean": plant_norm(lambda e: (0.0, (e**2).mean())),
    "no norm": ("architectures.layer_norm_columns", lambda X, gamma, beta: X),
    "scale by sqrt of the model width": ("attention.Attention", scale_by_model_width),
    "heads merged by view": ("architectures.MHAttention", merge_heads_by_view),
    "softmax over rows": ("attention.softmax", lambda S: formal.softmax(S.T).T),
    "embeddings times sqrt(d_e)": (
        "architectures.embed",
        lambda x, W_e, W_p: right_embed(x, W_e * np.sqrt(len(W_e)), W_p),
    ),
    "positions left out": ("architectures.embed", lambda x, W_e, W_p: right_embed(x, W_e, 0 * W_p)),
    "positions off by one": (
        "architectures.embed",
        lambda x, W_e, W_p: right_embed(x, W_e, np.roll(W_p, 1, axis=1)),
    ),
    "mask transposed": plant_mask(lambda Mask: 1 - Mask if Mask.all() else Mask.T),
    "decoder sees its future": ("architectures.unidirectional", lambda l_x: formal.bidirectional(l_x, l_x)),
    "encoder is blind to its future": (
        "architectures.bidirectional",
        lambda l_z, l_x: np.tri(l_x, l_z, dtype=int).T,
    ),
    "tanh GELU": (
        "architectures.GELU",
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    "ReLU for GELU": ("architectures.GELU", formal.ReLU),
    "GELU for ReLU": ("architectures.ReLU", formal.GELU),
}
does_not_concern = {
    "ED": {"tanh GELU", "ReLU for GELU"},
    "E": {"decoder sees its future", "GELU for ReLU"},
    "D": {"encoder is blind to its future", "GELU for ReLU"},
}


@pytest.mark.parametrize("mistake", mistakes)
@pytest.mark.parametrize("name", checks)
def test_a_planted_mistake_is_caught(name, mistake, monkeypatch):
    target, planted = mistakes[mistake]
    monkeypatch.setattr(f"cutaway.formal.{target}", planted)
    if mistake in does_not_concern[name]:
        checks[name]()
    else:
        with pytest.raises(AssertionError):
            checks[name]()


def test_cross_attention_has_weights_of_its_own():
    model = peers.make_pair()
    theta = peers.read_pair(model)
    reused = replace(theta, decoder=tuple(replace(layer, W_ed=layer.W_dec) for layer in theta.decoder))
    with pytest.raises(AssertionError):
        check(formal.EDTransformer(Z, X, reused), model(Z, X))
    for layer in model.decoder.layers:
        layer.multihead_attn = layer.self_attn
    check(formal.EDTransformer(Z, X, reused), model(Z, X))


def test_encoder_decoder_is_post_norm():
    model = peers.make_pair(norm_first=True)
    with pytest.raises(AssertionError):
        check(formal.EDTransformer(Z, X, peers.read_pair(model)), model(Z, X))


def test_encoder_decoder_has_no_norm_after_its_stacks():
    """torch.nn.Transformer adds one to each; the paper and Vaswani et al. do not."""
    model = peers.make_pair()
    model.decoder.norm = peers.redraw(nn.LayerNorm(8, eps=0.0), seed=1)
    with pytest.raises(AssertionError):
        check(formal.EDTransformer(Z, X, peers.read_pair(model)), model(Z, X))


def test_decoder_is_pre_norm(monkeypatch):
    """The order is part of the function: algorithm 9's lines do not pass for algorithm 10's."""

    def post_norm(x, theta):
        X = formal.embed(x, theta.W_e, theta.W_p)
        for W in theta.layers:
            X = X + formal.MHAttention(X, X, W.W, Mask=formal.unidirectional(len(x)))
            X = formal.layer_norm_columns(X, W.gamma_1, W.beta_1)
            X = X + W.W_mlp2 @ formal.GELU(W.W_mlp1 @ X + W.b_mlp1[:, None]) + W.b_mlp2[:, None]
            X = formal.layer_norm_columns(X, W.gamma_2, W.beta_2)
        return formal.softmax(theta.W_u @ formal.layer_norm_columns(X, theta.gamma, theta.beta))

    monkeypatch.setattr(formal, "DTransformer", post_norm)
    with pytest.raises(AssertionError):
        check_D()


# Properties, with d_mid != d_attn, which no peer can represent ----------------------------------------------


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("L", [0, 1, 3])
def test_columns_are_distributions(rng, L):
    thetas = random_weights.draw_E(rng, L=L), random_weights.draw_D(rng, L=L)
    P_E, P_D = formal.ETransformer([1, 2, 3], thetas[0]), formal.DTransformer([1, 2, 3], thetas[1])
    P_ED = formal.EDTransformer([4, 5], [1, 2, 3], random_weights.draw_ED(rng, L_enc=L, L_dec=L))
    for P in (P_E, P_D, P_ED):
        assert P.shape == (8, 3) and P.dtype == np.float64
        np.testing.assert_allclose(P.sum(axis=0), 1, atol=1e-14)


def sees(f, x, t):
    """The columns of f(x) that change with x[t]."""
    other = [*x[:t], (x[t] + 1) % 8, *x[t + 1 :]]
    return [
        column for column in range(len(x)) if not np.allclose(f(x)[:, column], f(other)[:, column], rtol=0)
    ]


@pytest.mark.parametrize("t", range(5))
def test_who_sees_whom(rng, t):
    D, E, ED = random_weights.draw_D(rng), random_weights.draw_E(rng), random_weights.draw_ED(rng)
    x = [1, 2, 3, 4, 5]
    assert sees(lambda x: formal.DTransformer(x, D), x, t) == list(range(t, 5))
    assert sees(lambda x: formal.EDTransformer([7, 7], x, ED), x, t) == list(range(t, 5))
    assert sees(lambda x: formal.ETransformer(x, E), x, t) == list(range(5))
    assert sees(lambda z: formal.EDTransformer(z, x, ED), x, t) == list(range(5))


def test_without_positions_the_encoder_knows_no_order(rng):
    theta = random_weights.draw_E(rng)
    blind = replace(theta, W_p=0 * theta.W_p)
    x, order = np.array([1, 2, 3, 4, 4]), [3, 0, 4, 1, 2]
    np.testing.assert_allclose(
        formal.ETransformer(x[order], blind), formal.ETransformer(x, blind)[:, order], rtol=0, atol=1e-12
    )
    assert not np.allclose(formal.ETransformer(x[order], theta), formal.ETransformer(x, theta)[:, order])


def test_an_empty_context_is_the_decoder_alone(rng):
    theta = random_weights.draw_ED(rng)
    P = formal.EDTransformer([], [1, 2, 3], theta)
    silent = replace(
        theta,
        decoder=tuple(replace(W, W_ed=replace(W.W_ed, W_o=0 * W.W_ed.W_o)) for W in theta.decoder),
    )
    np.testing.assert_allclose(P, formal.EDTransformer([5], [1, 2, 3], silent), rtol=0, atol=1e-12)


def test_refuses_what_the_paper_does_not_define(rng):
    theta = random_weights.draw_D(rng, N_V=8, l_max=6)
    with pytest.raises(ContextLengthError, match="7 tokens, but the model has positions for 6"):
        formal.DTransformer([0] * 7, theta)
    for token in (-1, 8):
        with pytest.raises(LimitError, match=f"token {token} is not in the vocabulary 0 .. 7"):
            formal.DTransformer([0, token], theta)
