"""Algorithms 3, 4 and 5 of Phuong & Hutter: attention of one query, of a sequence, of many heads.

X (d_x, l_x) primary sequence   Z (d_z, l_z) context   Mask (l_z, l_x) of 0 and 1: may t_x see t_z?
d_attn width of queries and keys   d_mid width of one head's values   d_out width of the result

Mask is [context, primary], the transpose of the [query, key] masks of torch and of most code.
Self-attention is Z = X, with either of the masks below; cross-attention another Z, usually bidirectional.
"""

import numpy as np
from numpy.typing import NDArray

from cutaway.formal.nonlinearity import softmax
from cutaway.formal.weights import Array, AttentionWeights, MultiHeadWeights


def bidirectional(l_z: int, l_x: int) -> NDArray[np.int_]:
    """Mask = 1: every token sees the whole context."""
    return np.ones((l_z, l_x), dtype=int)


def unidirectional(l_x: int) -> NDArray[np.int_]:
    """Mask[t_z, t_x] = [[t_z <= t_x]]: every token sees itself and what came before. Upper triangular."""
    return np.array([[int(t_z <= t_x) for t_x in range(l_x)] for t_z in range(l_x)]).reshape(l_x, l_x)


def basic_single_query_attention(e: Array, context: list[Array], W_qkv: AttentionWeights) -> Array:
    """Algorithm 3: basic single-query attention. e (d_in), context e_1 .. e_T (d_in each) -> v~ (d_out)."""
    d_attn = len(W_qkv.b_q)
    q = W_qkv.W_q @ e + W_qkv.b_q
    k = [W_qkv.W_k @ e_t + W_qkv.b_k for e_t in context]
    v = [W_qkv.W_v @ e_t + W_qkv.b_v for e_t in context]
    alpha = softmax(np.array([q @ k_t / np.sqrt(d_attn) for k_t in k]))
    return sum((alpha_t * v_t for alpha_t, v_t in zip(alpha, v, strict=True)), np.zeros(len(W_qkv.b_v)))


def Attention(X: Array, Z: Array, W_qkv: AttentionWeights, Mask: NDArray) -> Array:
    """Algorithm 4: V~ <- Attention(X, Z | W_qkv, Mask).

    X (d_x, l_x), Z (d_z, l_z), Mask (l_z, l_x) -> V~ (d_out, l_x). Where Mask[:, t_x] is all 0, V~[:, t_x] is
    exactly 0. Raises IndexError for a Mask of another shape.
    """
    d_attn = len(W_qkv.b_q)
    Q = W_qkv.W_q @ X + W_qkv.b_q[:, None]  # (d_attn, l_x)
    K = W_qkv.W_k @ Z + W_qkv.b_k[:, None]  # (d_attn, l_z)
    V = W_qkv.W_v @ Z + W_qkv.b_v[:, None]  # (d_out, l_z)
    S = K.T @ Q  # (l_z, l_x)
    S[Mask == 0] = -np.inf
    return V @ softmax(S / np.sqrt(d_attn))


def MHAttention(X: Array, Z: Array, W: MultiHeadWeights, Mask: NDArray) -> Array:
    """Algorithm 5: V~ <- MHAttention(X, Z | W, Mask).

    X (d_x, l_x), Z (d_z, l_z), Mask (l_z, l_x) -> V~ (d_out, l_x). W_o is (d_out, H d_mid). A column that
    sees nothing is 0 in every head, hence b_o here.
    """
    Y = np.concatenate([Attention(X, Z, W_h, Mask) for W_h in W.heads])  # [Y^1; ...; Y^H], (H d_mid, l_x)
    return W.W_o @ Y + W.b_o[:, None]
