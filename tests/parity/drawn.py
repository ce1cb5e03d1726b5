"""The paper's architectures as specs, random weights for them, and how far two results lie apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cutaway import models, spec

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
NOTICED = 1e-6  # a planted mistake moves some number by more than this, in float64

both_precisions = pytest.mark.parametrize("dtype", TOLERANCE, ids=["float64", "float32"])
every_count_of_heads = pytest.mark.parametrize("H", [1, 2, 4])

Z, X = [3, 1, 4, 1, 5], [9, 2, 6, 5, 3, 5, 8]
N_V, L_MAX, WIDTH, HIDDEN = 11, 9, 8, 12
NORM = spec.LayerNorm(eps=0.0)  # the paper's has no epsilon


def attention(heads: int = 2, head_width: int | None = None, scale: float | None = None) -> spec.Attention:
    return spec.Attention(heads, head_width=head_width, scale=scale, bias="qkvo")


def stack(
    order: str, act: str, norm: spec.Norm, attend: spec.Attention, layers: int, sees: str
) -> spec.Stack:
    block = spec.Block(attend, spec.MLP(HIDDEN, act), norm, order)
    return spec.Stack(layers, (block,), sees, final_norm=norm if order == "pre" else None)


def tokens(scale: float = 1.0, offset: int = 0) -> spec.Tokens:
    return spec.Tokens(N_V, spec.Learned(L_MAX, offset), scale=scale)


def pair(order="post", act="relu", norm=NORM, attend=None, scale=1.0, layers=(2, 3)) -> spec.Paired:
    """Algorithm 8."""
    attend = attend or attention()
    encoder = stack(order, act, norm, attend, layers[0], "all")
    writer = replace(encoder.blocks[0], cross=attend)
    decoder = replace(encoder, layers=layers[1], blocks=(writer,), sees="past")
    return spec.Paired(WIDTH, tokens(scale), encoder, decoder, spec.NextToken(tied=False))


def encoder(
    order="post", act="gelu", norm=NORM, attend=None, scale=1.0, head_act="gelu", sees="all", layers=2
):
    """Algorithm 9; d_f is not d_e."""
    blocks = stack(order, act, norm, attend or attention(), layers, sees)
    head = spec.NextToken(tied=False, transform=spec.Transform(head_act, norm, 6))
    return spec.Single(WIDTH, tokens(scale), blocks, head)


def decoder(order="pre", act="gelu", norm=NORM, attend=None, scale=1.0, sees="past", layers=2) -> spec.Single:
    """Algorithm 10."""
    blocks = stack(order, act, norm, attend or attention(), layers, sees)
    return spec.Single(WIDTH, tokens(scale), blocks, spec.NextToken(tied=False))


def redraw(module: nn.Module, seed: int, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Every parameter anew, gains about 1 and the rest about 0: those of a fresh module hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            parameter.normal_(float(gain), 0.4, generator=generator)
    return module.to(dtype).eval()


def make(plan: spec.Model, seed: int = 0, dtype: torch.dtype = torch.float64) -> models.AnyModel:
    """A model of this spec, all its parameters random."""
    return redraw(models.build(plan), seed, dtype)


def gap(ours: Tensor, theirs: np.ndarray) -> float:
    """The largest difference between our rows and the paper's columns."""
    rows = ours.detach().double().numpy()
    assert rows.shape == theirs.T.shape
    return float(np.abs(rows - theirs.T).max())
