"""Steps of decoding that are compiled: one position of one row, each weight read once at memory's speed.

A product with one row does nothing but read its matrix, and what is behind torch's `mm` uses one core for it.
Written as a sum of products (`one_row`) inside of a compiled block it is a loop of inductor's over all cores,
beside the small operations around it (LOG.md). Everything else runs as before, taps and edits included.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cutaway.errors import ConfigError
from cutaway.models import AnyModel, Pair, Single
from cutaway.models.decoding import check_decodes
from cutaway.nn.block import Block
from cutaway.nn.heads import NextToken
from cutaway.nn.stack import Stack

MOST_GRAPHS = 256  # of one kind of part: kinds of blocks, and which taps are read or edited


class Step:
    """Takes the place of a part's `forward`: compiled for one position of one row, plain for all else."""

    def __init__(self, part: nn.Module, quick: Callable[..., Tensor]):
        self.part, self.plain, self.quick = part, part.forward, quick

    def __call__(self, x_BLD: Tensor, *others: Any, **named: Any) -> Tensor:
        decodes = isinstance(self.part, NextToken) or named.get("cache") is not None
        if not decodes or x_BLD.shape[:2] != (1, 1) or torch.is_grad_enabled():
            return self.plain(x_BLD, *others, **named)
        x_BLD = x_BLD.clone()  # a row out of a larger tensor would be compiled once more
        try:
            return self.quick(self.part, x_BLD, *others, **named)
        except torch._dynamo.exc.Unsupported:
            self.plain(x_BLD, *others, **named)  # says in our words what is wrong with an edit
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy is not compiled."""
        return getattr, (self.part, "forward")


def compile_steps(model: AnyModel) -> None:
    """From the next step of decoding on, blocks and head are compiled where one row is written.

    The first steps take a quarter of a minute, or a few seconds where the compiler's cache knows the model.
    Raises ConfigError for a model that does not decode, for one without blocks, as recurrent ones are, and
    where there is no C++ compiler.
    """
    if isinstance(model, Pair):
        model.check_decodes()
    elif isinstance(model, Single):
        check_decodes(model)
    stack = getattr(model, "decoder", None) if isinstance(model, Pair) else model
    if not isinstance(stack, Stack):
        raise ConfigError(f"compile: a {type(model).__name__} has no blocks to compile; leave it out")
    quick: dict[type[nn.Module], Callable[..., Tensor]] = {
        kind: _compile(kind.forward) for kind in (Block, NextToken)
    }
    for part in (*stack.blocks, model.head):
        if not compiled(part):
            vars(part)["forward"] = Step(part, quick[type(part)])


def _compile(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """One function for all parts of a model, whose graphs do not count among those of other models."""
    from cutaway.generate.one_row import ONE_ROW, check_compiler  # here: a second of imports

    check_compiler()
    own: dict[str, Any] = {  # torch's declared overloads leave the last two out
        "dynamic": True,  # of places the cache has more at every step
        "options": {"post_grad_custom_pre_pass": ONE_ROW},
        "recompile_limit": MOST_GRAPHS,
        "isolate_recompiles": True,
    }
    return torch.compile(forward, fullgraph=True, **own)


def compiled(part: nn.Module) -> bool:
    """Whether steps of this part are compiled."""
    return isinstance(vars(part).get("forward"), Step)
