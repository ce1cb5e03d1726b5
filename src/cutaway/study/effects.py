"""What each part is good for at one text: the losses and the next token with every part switched off in turn.

A part is switched off by putting zero in place of what it adds (for a head: of its mix), and a layer by
passing its input on. Nothing in front of the part changes, so only what lies behind it is computed again, for
several parts at once: the parts of one layer become the rows of one batch.

L position   M source position   D width   H head   K head width   E part (a row of the batch)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import ConfigError, LimitError
from cutaway.models import AnyModel, Paired, sites
from cutaway.nn.heads import NextToken
from cutaway.nn.stack import Stack
from cutaway.study.readout import ahead, last_stack, reading, surprise
from cutaway.study.subject import Inputs, arguments, looking, subject
from cutaway.tap import Recorder, Tap, off

TOKENS_AT_ONCE = 2048  # the rows of a batch times the text's length


@dataclass(frozen=True)
class Part:
    """One thing to switch off: `name` is the tap where it happens, `kind` attn, cross, ffn or layer."""

    name: str
    kind: str
    depth: int
    head: int | None = None
    side: str = ""


@dataclass(frozen=True)
class Effects:
    """Losses in nats (`surprise`: of each token that came next), and the likeliest tokens after the last one
    with their probabilities: `before` with all parts, `after` with each part off, a row each.
    """

    parts: tuple[Part, ...]
    surprise_before_L: Tensor
    surprise_after_EL: Tensor
    tokens_before: Tensor
    chances_before: Tensor
    tokens_after: Tensor
    chances_after: Tensor

    @property
    def loss_before(self) -> float:
        """The text's mean loss in nats."""
        return float(self.surprise_before_L.mean())

    @property
    def loss_after(self) -> Tensor:
        """The text's mean loss with each part off."""
        return self.surprise_after_EL.mean(-1)


def switch_off(thing: Any, inputs: Inputs, best: int = 5) -> Effects:
    """Switch off every head, every attention, every feed-forward and every layer in turn.

    `inputs` is one text, or a pair for an encoder-decoder. Raises ConfigError for a model that does not
    predict the next token, LimitError for a text of fewer than two tokens or for several at once.
    """
    studied = subject(thing)
    model = studied.model
    assert isinstance(model, AnyModel)
    if not isinstance(model.head, NextToken) or not ahead(model):
        raise ConfigError("switch_off needs a model that predicts the next token: this one does not")
    tokens = arguments(studied, inputs)[0]
    if any(side.size(0) != 1 for side in tokens) or tokens[-1].size(1) < 2:
        raise LimitError("switch_off reads one text of at least two tokens")
    parts, surprises, likely = [], [], []
    with looking(studied):
        whole_1LD = model.features(*tokens)
        before = surprise(model, whole_1LD, tokens[-1])[0], *last_of(model, whole_1LD, tokens[-1], best)
        for some, x_ELD in features_without(model, tokens):
            parts += some
            same_EL = tokens[-1].expand(len(some), -1)
            surprises.append(surprise(model, x_ELD, same_EL))
            likely.append(last_of(model, x_ELD, same_EL, best))
    after = [torch.cat(kind)[:, 0] for kind in zip(*likely, strict=True)]
    return Effects(tuple(parts), before[0], torch.cat(surprises), before[1][0, 0], before[2][0, 0], *after)


def last_of(model: AnyModel, x_ELD: Tensor, tokens_EL: Tensor, best: int) -> tuple[Tensor, Tensor]:
    """The likeliest tokens behind the last position, and their probabilities, (E, 1, best) each."""
    return reading(model, x_ELD[:, -1:], tokens_EL[:, -1:], best)[:2]


def features_without(model: AnyModel, tokens: Sequence[Tensor]) -> Iterator[tuple[list[Part], Tensor]]:
    """For some parts at a time, the model's last vectors (E, L, D) with each of them off."""
    at_once = max(1, TOKENS_AT_ONCE // sum(side.size(1) for side in tokens))
    sides: dict[str, Stack] = (
        {"encoder.": model.encoder, "decoder.": model.decoder}
        if isinstance(model, Paired)
        else {"": last_stack(model)}
    )
    starts = [f"{side}blocks.{depth}.in" for side, stack in sides.items() for depth in range(stack.layers)]
    recorder = Recorder([*starts, "encoder.final_norm.out"])
    memory_1MD = None
    if isinstance(model, Paired):
        memory_1MD = model.encode(tokens[0], tap=recorder)
        model.decode(tokens[-1], memory_1MD, tap=recorder)
    else:
        model.features(*tokens, tap=recorder)
    for side, stack in sides.items():
        for depth in range(stack.layers):
            start_1LD = recorder.seen[f"{side}blocks.{depth}.in"]
            these = parts_of(model, side, depth)
            for first in range(0, len(these), at_once):
                some = these[first : first + at_once]
                tap, x_ELD = SwitchOff(some, depth), start_1LD.expand(len(some), -1, -1)
                memory = None if memory_1MD is None else memory_1MD.expand(len(some), -1, -1)
                rest = range(depth, stack.layers)
                if side == "encoder." and isinstance(model, Paired):
                    memory = stack.run(x_ELD, depths=rest, tap=tap)
                    yield some, model.decode(tokens[-1].expand(len(some), -1), memory)
                else:
                    yield some, stack.run(x_ELD, memory, depths=rest, tap=tap)


def parts_of(model: AnyModel, side: str, depth: int) -> list[Part]:
    """What can be switched off at one depth, by the taps it has."""
    shapes, at = sites(model.plan), f"{side}blocks.{depth}."
    found = []
    for kind in ("attn", "mixer", "cross", "ffn"):
        if f"{at}{kind}.mix" in shapes:
            for head in range(shapes[f"{at}{kind}.mix"][1]):
                found.append(Part(f"{at}{kind}.mix", kind, depth, head, side))
        if f"{at}{kind}.out" in shapes:
            found.append(Part(f"{at}{kind}.out", kind, depth, None, side))
    return [*found, Part(f"{at}out", "layer", depth, None, side)]


class SwitchOff(Tap):
    """Switches off one part a row: the batch has a row for each of `parts`."""

    def __init__(
        self, parts: Sequence[Part], depth: int, path: str = "", held: dict[str, Tensor] | None = None
    ):
        self.parts, self.depth, self.path = parts, depth, path
        self.held = {} if held is None else held

    def inside(self, block: str) -> Tap:
        return self if block == f"blocks.{self.depth}" else off

    def at(self, child: str) -> Tap:
        return SwitchOff(self.parts, self.depth, f"{self.path}{child}.", self.held)

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """`value` (E, ...) with zero, or at the block's end its input, in its part's row."""
        full = self.path + name
        if full == "in":
            self.held["in"] = value
        rows = [row for row, part in enumerate(self.parts) if part.name.endswith(f".{self.depth}.{full}")]
        if not rows:
            return value
        value = value.clone()
        for row in rows:
            head = self.parts[row].head
            if head is not None:
                value[row, head] = 0.0
            else:
                value[row] = self.held["in"][row] if full == "out" else 0.0
        return value
