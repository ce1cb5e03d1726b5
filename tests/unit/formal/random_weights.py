"""Random parameters for the formal algorithms: nothing is 0 or 1 that a mistake could hide behind."""

import numpy as np

from cutaway import formal


def draw_heads(rng, H, d_x, d_z, d_attn, d_mid, d_out) -> formal.MultiHeadWeights:
    heads = tuple(
        formal.AttentionWeights(
            W_q=rng.normal(size=(d_attn, d_x)),
            b_q=rng.normal(size=d_attn),
            W_k=rng.normal(size=(d_attn, d_z)),
            b_k=rng.normal(size=d_attn),
            W_v=rng.normal(size=(d_mid, d_z)),
            b_v=rng.normal(size=d_mid),
        )
        for _ in range(H)
    )
    return formal.MultiHeadWeights(heads, W_o=rng.normal(size=(d_out, H * d_mid)), b_o=rng.normal(size=d_out))


def draw_norms(rng, width, *numbers) -> dict[str, np.ndarray]:
    gammas = {f"gamma_{n}": rng.normal(1, 0.3, size=width) for n in numbers}
    return gammas | {f"beta_{n}": rng.normal(0, 0.3, size=width) for n in numbers}


def draw_mlp(rng, d_e, d_mlp, first) -> dict[str, np.ndarray]:
    return {
        f"W_mlp{first}": rng.normal(size=(d_mlp, d_e)),
        f"b_mlp{first}": rng.normal(size=d_mlp),
        f"W_mlp{first + 1}": rng.normal(size=(d_e, d_mlp)),
        f"b_mlp{first + 1}": rng.normal(size=d_e),
    }


def draw_layer(rng, H, d_e, d_attn, d_mid, d_mlp) -> formal.LayerWeights:
    W = draw_heads(rng, H, d_e, d_e, d_attn, d_mid, d_e)
    return formal.LayerWeights(W=W, **draw_norms(rng, d_e, 1, 2), **draw_mlp(rng, d_e, d_mlp, 1))


def draw_cross_layer(rng, H, d_e, d_attn, d_mid, d_mlp) -> formal.CrossLayerWeights:
    W_dec, W_ed = (draw_heads(rng, H, d_e, d_e, d_attn, d_mid, d_e) for _ in range(2))
    norms = draw_norms(rng, d_e, 3, 4, 5)
    return formal.CrossLayerWeights(W_dec=W_dec, W_ed=W_ed, **norms, **draw_mlp(rng, d_e, d_mlp, 3))


def draw_D(rng, *, N_V=8, l_max=6, L=2, H=2, d_e=6, d_attn=3, d_mid=4, d_mlp=5) -> formal.DTransformerWeights:
    return formal.DTransformerWeights(
        W_e=rng.normal(size=(d_e, N_V)),
        W_p=rng.normal(size=(d_e, l_max)),
        layers=tuple(draw_layer(rng, H, d_e, d_attn, d_mid, d_mlp) for _ in range(L)),
        gamma=rng.normal(1, 0.3, size=d_e),
        beta=rng.normal(0, 0.3, size=d_e),
        W_u=rng.normal(size=(N_V, d_e)) / 2,
    )


def draw_E(
    rng, *, N_V=8, l_max=6, L=2, H=2, d_e=6, d_attn=3, d_mid=4, d_mlp=5, d_f=7
) -> formal.ETransformerWeights:
    return formal.ETransformerWeights(
        W_e=rng.normal(size=(d_e, N_V)),
        W_p=rng.normal(size=(d_e, l_max)),
        layers=tuple(draw_layer(rng, H, d_e, d_attn, d_mid, d_mlp) for _ in range(L)),
        W_f=rng.normal(size=(d_f, d_e)),
        b_f=rng.normal(size=d_f),
        gamma=rng.normal(1, 0.3, size=d_f),
        beta=rng.normal(0, 0.3, size=d_f),
        W_u=rng.normal(size=(N_V, d_f)) / 2,
    )


def draw_ED(
    rng, *, N_V=8, l_max=6, L_enc=2, L_dec=2, H=2, d_e=6, d_attn=3, d_mid=4, d_mlp=5
) -> formal.EDTransformerWeights:
    return formal.EDTransformerWeights(
        W_e=rng.normal(size=(d_e, N_V)),
        W_p=rng.normal(size=(d_e, l_max)),
        encoder=tuple(draw_layer(rng, H, d_e, d_attn, d_mid, d_mlp) for _ in range(L_enc)),
        decoder=tuple(draw_cross_layer(rng, H, d_e, d_attn, d_mid, d_mlp) for _ in range(L_dec)),
        W_u=rng.normal(size=(N_V, d_e)) / 2,
    )
