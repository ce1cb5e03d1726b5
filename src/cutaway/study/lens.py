"""The logit lens (nostalgebraist 2020): what the head would say if the model ended after each layer.

B batch   L position   D width   V vocabulary   N depth   E the likeliest tokens, the likeliest first
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import ConfigError
from cutaway.models import AnyModel, Paired
from cutaway.nn.heads import NextToken
from cutaway.study.readout import last_stack, reading
from cutaway.study.subject import Inputs, arguments, looking, subject
from cutaway.study.trace import trace


@dataclass(frozen=True)
class Lens:
    """A reading of the input of the first block and of the output of each; `names` are their taps.

    `tokens_NBLE` are the likeliest tokens, `chances_NBLE` their probabilities. `surprise`, (N, B, L - 1), is
    the loss in nats of the token that came next, or, in a model that sees all, (N, B, L), of the one at the
    place.
    """

    names: tuple[str, ...]
    tokens_NBLE: Tensor
    chances_NBLE: Tensor
    surprise: Tensor


def lens(thing: Any, inputs: Inputs, best: int = 5) -> Lens:
    """Read every layer's residual stream through final norm and head; the last reading is the model's own.

    Of an encoder-decoder it is the decoder's. Raises ConfigError for a model without a vocabulary to read
    out.
    """
    studied = subject(thing)
    model = studied.model
    assert isinstance(model, AnyModel)
    if not isinstance(model.head, NextToken):
        raise ConfigError("the logit lens needs a head over a vocabulary: this model has none")
    side = "decoder." if isinstance(model, Paired) else ""
    depths = range(last_stack(model).layers)
    names = (f"{side}blocks.0.in", *(f"{side}blocks.{depth}.out" for depth in depths))
    seen = trace(thing, inputs, keep=names)
    tokens_BL = arguments(studied, inputs)[0][-1]
    readings = []
    with looking(studied):
        for name in names:
            x_BLD = normed(model, seen[name])
            readings.append(reading(model, x_BLD, tokens_BL, best))
    return Lens(names, *(torch.stack(kind) for kind in zip(*readings, strict=True)))


def own_reading(model: AnyModel, inputs: Inputs, best: int = 5) -> Lens:
    """What the model itself says at each position: the one reading of a model without blocks."""
    studied = subject(model)
    positional, keyword = arguments(studied, inputs)
    with looking(studied):
        features: Any = model.features
        x_BLD = features(*positional, **keyword)
        found = reading(model, x_BLD, positional[-1], best)
    return Lens(("logits",), *(kind[None] for kind in found))


def unembed(model: AnyModel, x_BLD: Tensor) -> Tensor:
    """The logits (B, L, V) that a residual stream would give if it were the last."""
    return model.head(normed(model, x_BLD), model.vocab_matrix)


def normed(model: AnyModel, x_BLD: Tensor) -> Tensor:
    """The residual stream behind the final norm, where there is one (post-norm stacks have none)."""
    norm = last_stack(model).final_norm
    return x_BLD if norm is None else norm(x_BLD)
