"""Algorithms 8, 9 and 10 of Phuong & Hutter: the encoder-decoder, the encoder (BERT), the decoder (GPT).

Algorithms 8 and 9 normalise after adding (post-norm), algorithm 10 before each sub-layer (pre-norm) and once
more at the end. Embeddings are not scaled by sqrt(d_e): that is Vaswani et al.'s and not in the paper.

z (l_z), x (l_x) sequences of tokens   Z (d_e, l_z)   X (d_e, l_x)   P (N_V, l_x), each column a distribution
"""

from collections.abc import Sequence

from cutaway.formal.attention import MHAttention, bidirectional, unidirectional
from cutaway.formal.embedding import embed
from cutaway.formal.nonlinearity import GELU, ReLU, softmax
from cutaway.formal.norm import layer_norm_columns
from cutaway.formal.weights import Array, DTransformerWeights, EDTransformerWeights, ETransformerWeights


def EDTransformer(z: Sequence[int], x: Sequence[int], theta: EDTransformerWeights) -> Array:
    """Algorithm 8: P <- EDTransformer(z, x | theta). z (l_z), x (l_x) -> P (N_V, l_x).

    Column t of P is the distribution of x[t+1] given x up to t and all of z.
    Hyperparameters, read off the shapes of theta: l_max, L_enc, L_dec, H, d_e, d_mlp.
    """
    l_z = len(z)
    Z = embed(z, theta.W_e, theta.W_p)
    for W in theta.encoder:
        Z = Z + MHAttention(Z, Z, W.W, Mask=bidirectional(l_z, l_z))
        Z = layer_norm_columns(Z, W.gamma_1, W.beta_1)
        Z = Z + W.W_mlp2 @ ReLU(W.W_mlp1 @ Z + W.b_mlp1[:, None]) + W.b_mlp2[:, None]
        Z = layer_norm_columns(Z, W.gamma_2, W.beta_2)

    l_x = len(x)
    X = embed(x, theta.W_e, theta.W_p)
    for W in theta.decoder:
        X = X + MHAttention(X, X, W.W_dec, Mask=unidirectional(l_x))
        X = layer_norm_columns(X, W.gamma_3, W.beta_3)
        X = X + MHAttention(X, Z, W.W_ed, Mask=bidirectional(l_z, l_x))
        X = layer_norm_columns(X, W.gamma_4, W.beta_4)
        X = X + W.W_mlp4 @ ReLU(W.W_mlp3 @ X + W.b_mlp3[:, None]) + W.b_mlp4[:, None]
        X = layer_norm_columns(X, W.gamma_5, W.beta_5)
    return softmax(theta.W_u @ X)


def ETransformer(x: Sequence[int], theta: ETransformerWeights) -> Array:
    """Algorithm 9: P <- ETransformer(x | theta). x (l_x) -> P (N_V, l_x).

    Column t of P is the distribution of the token that a mask at t hides, given all of x.
    Hyperparameters, read off the shapes of theta: l_max, L, H, d_e, d_mlp, d_f.
    """
    l_x = len(x)
    X = embed(x, theta.W_e, theta.W_p)
    for W in theta.layers:
        X = X + MHAttention(X, X, W.W, Mask=bidirectional(l_x, l_x))
        X = layer_norm_columns(X, W.gamma_1, W.beta_1)
        X = X + W.W_mlp2 @ GELU(W.W_mlp1 @ X + W.b_mlp1[:, None]) + W.b_mlp2[:, None]
        X = layer_norm_columns(X, W.gamma_2, W.beta_2)
    X = GELU(theta.W_f @ X + theta.b_f[:, None])
    X = layer_norm_columns(X, theta.gamma, theta.beta)
    return softmax(theta.W_u @ X)


def DTransformer(x: Sequence[int], theta: DTransformerWeights) -> Array:
    """Algorithm 10: P <- DTransformer(x | theta). x (l_x) -> P (N_V, l_x).

    Column t of P is the distribution of x[t+1] given x up to t.
    Hyperparameters, read off the shapes of theta: l_max, L, H, d_e, d_mlp.
    """
    l_x = len(x)
    X = embed(x, theta.W_e, theta.W_p)
    for W in theta.layers:
        X_normed = layer_norm_columns(X, W.gamma_1, W.beta_1)
        X = X + MHAttention(X_normed, X_normed, W.W, Mask=unidirectional(l_x))
        X_normed = layer_norm_columns(X, W.gamma_2, W.beta_2)
        X = X + W.W_mlp2 @ GELU(W.W_mlp1 @ X_normed + W.b_mlp1[:, None]) + W.b_mlp2[:, None]
    X = layer_norm_columns(X, theta.gamma, theta.beta)
    return softmax(theta.W_u @ X)
