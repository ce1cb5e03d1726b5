"""Finding where numbers stop being finite: a tap that listens at every site of one pass, there and back."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.models import AnyModel
from cutaway.tap import Tap
from cutaway.train.loss import IGNORE, Batch, logits_of


class Alarm(Tap):
    """Remembers the sites whose value, or whose gradient, is not finite, in the order they are computed."""

    def __init__(self, path: str = "", found: list[str] | None = None):
        self.path = path
        self.found: list[str] = [] if found is None else found

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name != "scores":  # of these, minus infinity is meant
            self._listen("value", name, value)
        if value.requires_grad:
            value.register_hook(lambda gradient: self._listen("gradient", name, gradient))
        return value

    def at(self, child: str) -> "Alarm":
        return Alarm(f"{self.path}{child}.", self.found)

    def inside(self, block: str) -> "Alarm":
        return self.at(block)

    def _listen(self, what: str, name: str, numbers: Tensor) -> None:
        if not bool(numbers.isfinite().all()):
            self.found.append(f"the {what} at {self.path}{name}")


def first_not_finite(model: AnyModel, batch: Batch) -> str | None:
    """Where the first number arises that is not finite; None if there is none. Leaves gradients behind."""
    alarm = Alarm()
    with torch.compiler.set_stance("force_eager"):  # a compiled block could not stop to look
        logits = logits_of(model, batch, alarm)
        if not alarm.found:
            F.cross_entropy(
                logits.flatten(0, -2).float(), batch.targets.flatten(), ignore_index=IGNORE, reduction="sum"
            ).backward()
    return alarm.found[0] if alarm.found else None
