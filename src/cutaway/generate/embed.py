"""Texts as vectors: of the last layer's vectors the mean over a text's tokens, or the first one.

The mean over real tokens, normalised, is what sentence encoders such as MiniLM are trained for (Reimers &
Gurevych 2019).

B batch   L position   D width
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.data.begin import between_borders
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, LimitError, nearest
from cutaway.generate.decode import pad_behind
from cutaway.models import AnyModel, Single

POOLS = ("mean", "cls")
TEXTS_AT_ONCE = 64


@torch.no_grad()
def embed(
    model: AnyModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    pool: str = "mean",
    normalise: bool = True,
    length: int | None = None,
) -> Tensor:
    """A vector for each text, (B, D), on the processor; `pool` is mean or cls, the first position.

    Each text stands in the tokenizer's template, or between end tokens where it has none; of one longer than
    `length` tokens the beginning counts. Raises ConfigError for a model that is no encoder of text,
    LimitError for a text without a token.
    """
    if pool not in POOLS:
        raise ConfigError(f"pool {pool!r}: unknown; {nearest(pool, POOLS)}")
    if not isinstance(model, Single) or tokenizer is None:
        raise ConfigError("embedding needs one stack that reads text, such as BERT")
    rows = between_borders(tokenizer, map(tokenizer.encode, texts), length)
    if empty := [number for number, row in enumerate(rows) if not len(row)]:
        raise LimitError(f"text {empty[0]} has no token: give some text")
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))  # alike lengths, little padding
    found: dict[int, Tensor] = {}
    for first in range(0, len(order), TEXTS_AT_ONCE):
        places = order[first : first + TEXTS_AT_ONCE]
        tokens_BL, padding_BL = pad_behind([rows[place] for place in places])
        x_BLD = model.features(tokens_BL.to(device), padding_BL=padding_BL.to(device)).float().cpu()
        vectors_BD = pooled(x_BLD, padding_BL, pool)
        vectors_BD = F.normalize(vectors_BD, dim=-1) if normalise else vectors_BD
        found |= dict(zip(places, vectors_BD, strict=True))
    width = model.plan.width
    return torch.stack([found[place] for place in range(len(rows))]) if rows else torch.empty(0, width)


def pooled(x_BLD: Tensor, padding_BL: Tensor, pool: str) -> Tensor:
    """One vector a row, (B, L, D) -> (B, D)."""
    if pool == "cls":
        return x_BLD[:, 0]
    real_BLx = padding_BL[..., None].to(x_BLD.dtype)
    return (x_BLD * real_BLx).sum(1) / real_BLx.sum(1)
