"""The training loop: an iterator with a state. Evaluating, sampling, saving are plain `if`s around it.

for step in Training(working, task, optimizers, run):
    print(step.number, step.loss.item())
"""

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from cutaway import spec
from cutaway.errors import NonFiniteError
from cutaway.models import AnyModel
from cutaway.train.finite import first_not_finite
from cutaway.train.loss import Batch
from cutaway.train.optim import Optimizers
from cutaway.train.precision import Working
from cutaway.train.schedule import factor_at

MOST_SKIPPED = 10  # steps in a row whose loss or gradient may be not finite


class Examples(Protocol):
    """Where a step's examples come from: a pure function of the step."""

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """What is made smaller: a micro-batch's share of the mean over the step's `total` targets."""

    def example_ids(self, step: int) -> list[int]:
        """A name for each example, for error messages."""


@dataclass(frozen=True)
class Step:
    """One finished step: `loss` is the mean over its `tokens` targets before the update, in nats.

    `read` are the positions that each side of the model read, padding not counted, of a pair those of the
    source and those of the target. `rate` is the share of the full rate that the schedule gave it; `skipped`
    says that nothing was changed.
    """

    number: int
    loss: Tensor
    grad_norm: Tensor
    rate: float
    tokens: int
    read: tuple[int, ...]
    seconds: float
    skipped: bool


class Training:
    """Yields a `Step` after each update, until `run.steps` are done.

    A step whose loss or gradient is not finite changes nothing; after ten in a row the next one raises
    NonFiniteError.
    """

    def __init__(self, working: Working, examples: Examples, optimizers: Optimizers, run: spec.Run):
        self.working, self.examples, self.optimizers, self.run = working, examples, optimizers, run
        self.done = 0  # steps
        self.skipped = 0  # in a row
        self.whole = True  # unless a step was interrupted between changing the weights and being counted

    def __iter__(self) -> Iterator[Step]:
        self.working.refresh()
        while self.done < self.run.steps:
            yield self.advance()

    def advance(self) -> Step:
        """Do one step."""
        begin, number = time.perf_counter(), self.done
        self.working.model.train()
        self.working.forget()  # what a step that was interrupted may have left
        parts = self.examples.parts(number)
        total = sum(part.scored for part in parts)
        read = tuple(sum(side) for side in zip(*(part.read for part in parts), strict=True))
        losses = []
        with torch.random.fork_rng(self.working.drawing):  # nor does training disturb others' random numbers
            for place, part in enumerate(parts):
                torch.manual_seed(random_seed(self.run.seed, number, place))
                loss = self.examples.loss(self.working.model, part, total)
                loss.backward()
                self.working.collect()
                losses.append(loss.detach())
        loss, norm = torch.stack(losses).sum(), self.working.clip(self.run.clip)
        finite = math.isfinite(loss.item()) and math.isfinite(norm.item())
        if not finite and self.skipped == MOST_SKIPPED:
            what = self.blame(parts)
            self.working.forget()
            raise NonFiniteError(self.done + 1, what, self.examples.example_ids(number)[:8])
        factor = factor_at(self.run.schedule, number, self.run.steps)
        self.whole = False
        if finite:
            self.optimizers.step(factor)
        self.working.forget()
        if finite:
            self.working.refresh()
        self.skipped = 0 if finite else self.skipped + 1
        self.done += 1
        self.whole = True
        return Step(self.done, loss, norm, factor, total, read, time.perf_counter() - begin, not finite)

    def blame(self, parts: list[Batch]) -> str:
        """Where the first number that is not finite arises, going forward or back."""
        for place, part in enumerate(parts):
            with torch.random.fork_rng(self.working.drawing):
                torch.manual_seed(random_seed(self.run.seed, self.done, place))
                if (found := first_not_finite(self.working.model, part.to(self.working.device))) is not None:
                    return found
        return "the norm of all gradients"

    def state_dict(self) -> dict[str, int]:
        """Where training stands; with weights and optimiser state, all it takes to go on."""
        return {"done": self.done, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Stand where `state_dict` stood."""
        self.done, self.skipped = state["done"], state["skipped"]


def random_seed(seed: int, step: int, place: int) -> int:
    """The seed of one micro-step's random numbers (dropout): no draw elsewhere can shift them."""
    digest = hashlib.sha256(f"{seed}:{step}:{place}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
