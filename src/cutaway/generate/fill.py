"""What stands in the holes of a text, by a model that learned to tell hidden tokens (Devlin et al. 2018).

A hole is one token. The text is read between end tokens, as in the text it learned from.

E holes   V vocabulary
"""

from dataclasses import dataclass

import torch

from cutaway.data.begin import borders
from cutaway.data.masking import mask_id
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.models import AnyModel, Single
from cutaway.nn.heads import NextToken, fine

HOLE = "[MASK]"


@dataclass(frozen=True)
class Guess:
    """A token that may stand in a hole, as text, and its probability."""

    text: str
    chance: float


@torch.no_grad()
def fill(model: AnyModel, tokenizer: Tokenizer, text: str, best: int = 5) -> list[list[Guess]]:
    """For each `[MASK]` of a text the likeliest tokens, the likeliest first.

    Raises ConfigError for a model that did not learn to tell hidden tokens, LimitError for a text without a
    hole or no guess asked for, ContextLengthError for one that is too long.
    """
    mask = None if tokenizer is None else mask_id(tokenizer)
    reads_all = isinstance(model, Single) and model.sees == "all" and isinstance(model.head, NextToken)
    if mask is None or not reads_all:
        raise ConfigError("filling holes needs a model that learned to tell hidden tokens (data MaskedText)")
    if HOLE not in text:
        raise LimitError(f"the text has no {HOLE}: write it where a token is to be told")
    if best < 1:
        raise LimitError(f"best {best}: must be at least 1")
    front, behind = borders(tokenizer)
    ids, places = [*front], []
    *before, last = text.split(HOLE)
    for piece in before:
        # a byte-pair token begins with the space in front of its word
        ids += tokenizer.encode(piece.removesuffix(" ") if tokenizer.kind == "bpe" else piece).tolist()
        places.append(len(ids))
        ids.append(mask)
    ids += [*tokenizer.encode(last).tolist(), *behind]
    device = next(model.parameters()).device
    logits_EV = fine(model(torch.tensor([ids], device=device))[0, places]).cpu()
    found = logits_EV.softmax(-1).topk(min(best, logits_EV.size(-1)))
    return [
        [Guess(tokenizer.decode([number]), chance) for number, chance in zip(numbers, chances, strict=True)]
        for numbers, chances in zip(found.indices.tolist(), found.values.tolist(), strict=True)
    ]
