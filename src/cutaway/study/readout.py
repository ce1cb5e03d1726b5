"""What a head says of last vectors: the likeliest tokens, and how surprising the token was that came.

B batch   L position   D width   V vocabulary   E the likeliest tokens, or rows of a flat batch
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.models import AnyModel, Paired
from cutaway.nn.stack import Stack

NUMBERS_AT_ONCE = 1 << 24  # of logits, 64 MB: fewer rows read the vocabulary too often


def logits_of(model: AnyModel, x_BLD: Tensor) -> Iterator[Tensor]:
    """The logits (rows, V) of all positions, some rows at a time, in float32 or finer."""
    rows = max(1, NUMBERS_AT_ONCE // model.vocab_matrix.size(0))
    for some_ED in x_BLD.flatten(0, 1).split(rows):
        logits_EV = model.head(some_ED[None], model.vocab_matrix)[0]
        yield logits_EV if logits_EV.dtype == torch.float64 else logits_EV.float()


def likeliest(model: AnyModel, x_BLD: Tensor, best: int) -> tuple[Tensor, Tensor]:
    """The `best` likeliest tokens at each position and their probabilities, (B, L, E) each."""
    tokens, chances = [], []
    for logits_EV in logits_of(model, x_BLD):
        found = logits_EV.log_softmax(-1).topk(min(best, logits_EV.size(-1)), dim=-1)
        tokens.append(found.indices)
        chances.append(found.values.exp())
    shape = (*x_BLD.shape[:2], -1)
    return torch.cat(tokens).view(shape), torch.cat(chances).view(shape)


def surprise(model: AnyModel, x_BLD: Tensor, tokens_BL: Tensor) -> Tensor:
    """The loss in nats of each token that came, (B, places that have one): see `ahead`."""
    shift = ahead(model)
    if shift:
        x_BLD, tokens_BL = x_BLD[:, :-1], tokens_BL[:, 1:]
    tokens_BL = tokens_BL.expand(x_BLD.size(0), -1)
    done, nats = 0, []
    for logits_EV in logits_of(model, x_BLD):
        some_E = tokens_BL.flatten()[done : done + logits_EV.size(0)]
        nats.append(F.cross_entropy(logits_EV, some_E, reduction="none"))
        done += logits_EV.size(0)
    return torch.cat(nats).view(tokens_BL.shape) if nats else x_BLD.new_zeros(tokens_BL.shape)


def ahead(model: AnyModel) -> int:
    """How far the token that a position is asked for lies ahead: 1, or 0 in a model that sees them all."""
    return int(last_stack(model).sees == "past")


def last_stack(model: AnyModel) -> Stack:
    """The stack whose output the head reads, with `blocks` and `final_norm`."""
    return model.decoder if isinstance(model, Paired) else model
