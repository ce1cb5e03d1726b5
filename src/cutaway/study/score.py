"""How well a model predicts a text: windows of the training length that share nothing.

B batch   L position   E tokens of a text that are scored
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.data.batches import evaluation_windows
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.models import AnyModel, Recurrence, Single
from cutaway.study.subject import text_ids
from cutaway.train.loss import Batch, token_losses

TOKENS_AT_ONCE = 8_192


@dataclass(frozen=True)
class Loss:
    """How well a text is predicted, every token after the first that is read scored once.

    `nats` is the mean over `count` tokens, `bits_per_byte` their sum over the bytes they stand for.
    `tokens_E` and `nats_E` say it token by token, where that was asked for.
    """

    nats: float
    bits_per_byte: float
    count: int
    tokens_E: Tensor | None = None
    nats_E: Tensor | None = None


def loss_of(
    model: AnyModel, tokenizer: Tokenizer, text: str, *, length: int | None = None, per_token: bool = False
) -> Loss:
    """The loss of a text in windows of `length` inputs, of the whole at once where that is None. What the
    tokenizer puts in front of a text, as Llama's `<s>`, is read in front of the first, and not scored.

    Raises LimitError for a text of fewer than two tokens, ConfigError for a model that predicts no next
    token.
    """
    if not isinstance(model, Single | Recurrence) or model.sees != "past":
        raise ConfigError("the loss of a text needs a model that predicts the next token of one")
    tokens = text_ids(model.plan, tokenizer, text)
    if len(tokens) < 2:
        raise LimitError(f"{len(tokens)} tokens: a loss needs at least 2, give more text")
    length = length or len(tokens) - 1
    device = next(model.parameters()).device
    losses = [
        token_losses(
            model, Batch((torch.from_numpy(inputs).to(device),), torch.from_numpy(targets).to(device))
        )
        for inputs, targets in evaluation_windows(tokens, length, max(1, TOKENS_AT_ONCE // length))
    ]
    nats_E = torch.cat([loss_BL.flatten() for loss_BL in losses]).cpu()
    total, scored = float(nats_E.double().sum()), len(tokenizer.decode_bytes(tokens[1:]))
    bits = total / math.log(2) / scored if scored else math.nan
    each = (torch.from_numpy(tokens[1:]), nats_E) if per_token else ()
    return Loss(total / len(nats_E), bits, len(nats_E), *each)
