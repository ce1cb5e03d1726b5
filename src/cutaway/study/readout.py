"""What a head says of last vectors: the likeliest tokens, and how surprising the token was that came.

B batch   L position   D width   V vocabulary   E the likeliest tokens, or rows of a flat batch
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.errors import ConfigError, LimitError
from cutaway.models import AnyModel, Paired, Single
from cutaway.nn.heads import fine
from cutaway.nn.stack import Stack

NUMBERS_AT_ONCE = 1 << 24  # of logits, 64 MB: fewer rows read the vocabulary too often


def logits_of(model: AnyModel, x_BLD: Tensor) -> Iterator[Tensor]:
    """The logits (rows, V) of all positions, some rows at a time, in float32 or finer."""
    rows = max(1, NUMBERS_AT_ONCE // model.vocab_matrix.size(0))
    for some_ED in x_BLD.flatten(0, 1).split(rows):
        yield fine(model.head(some_ED[None], model.vocab_matrix)[0])


def reading(model: AnyModel, x_BLD: Tensor, tokens_BL: Tensor, best: int) -> tuple[Tensor, Tensor, Tensor]:
    """The `best` likeliest tokens at each position and their probabilities, (B, L, E) each, and the loss in
    nats of each token that came, (B, places that have one): see `ahead`.

    Raises LimitError where `best` is less than 1.
    """
    if best < 1:
        raise LimitError(f"best {best}: must be at least 1, the likeliest token")
    shift = ahead(model)
    targets_BL = tokens_BL.roll(-shift, 1)
    done, parts = 0, []
    for logits_EV in logits_of(model, x_BLD):
        targets = targets_BL.flatten()[done : done + logits_EV.size(0), None]
        total = logits_EV.logsumexp(-1, keepdim=True)
        found = logits_EV.topk(min(best, logits_EV.size(-1)), dim=-1)
        parts.append((found.indices, (found.values - total).exp(), total - logits_EV.gather(-1, targets)))
        done += logits_EV.size(0)
    tokens, chances, nats = (
        torch.cat(kind).unflatten(0, x_BLD.shape[:2]) for kind in zip(*parts, strict=True)
    )
    return tokens, chances, nats[:, : nats.size(1) - shift, 0]


def surprise(model: AnyModel, x_BLD: Tensor, tokens_BL: Tensor) -> Tensor:
    """The loss in nats alone."""
    shift = ahead(model)
    if shift:
        x_BLD, tokens_BL = x_BLD[:, :-1], tokens_BL[:, 1:]
    targets_E = tokens_BL.flatten()
    done, nats = 0, []
    for logits_EV in logits_of(model, x_BLD):
        targets = targets_E[done : done + logits_EV.size(0)]
        nats.append(F.cross_entropy(logits_EV, targets, reduction="none"))
        done += logits_EV.size(0)
    return torch.cat(nats).view(x_BLD.shape[:2])


def ahead(model: AnyModel) -> int:
    """How far the token that a position is asked for lies ahead: 1, or 0 in a model that sees them all."""
    return int(not isinstance(model, Single | Paired) or last_stack(model).sees == "past")


def last_stack(model: AnyModel) -> Stack:
    """The stack whose output the head reads, with `blocks` and `final_norm`.

    Raises ConfigError for a model without one.
    """
    if not isinstance(model, Single | Paired):
        raise ConfigError(
            f"{type(model).__name__} has no residual stream of blocks to read out or to switch off parts of"
        )
    return model.decoder if isinstance(model, Paired) else model
