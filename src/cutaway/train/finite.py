"""Finding where numbers stop being finite: a tap that listens at every site of one forward pass."""

import torch
from torch import Tensor

from cutaway.models import AnyModel
from cutaway.tap import Tap
from cutaway.train.loss import Batch, features_of


class Alarm(Tap):
    """Remembers the first site whose value is not finite."""

    def __init__(self, path: str = "", found: list[str] | None = None):
        self.path = path
        self.found: list[str] = [] if found is None else found

    def __call__(self, name: str, value: Tensor) -> Tensor:
        masked = name == "scores"  # of these, minus infinity is meant
        if not self.found and not masked and not bool(value.isfinite().all()):
            self.found.append(self.path + name)
        return value

    def at(self, child: str) -> "Alarm":
        return Alarm(f"{self.path}{child}.", self.found)

    def inside(self, block: str) -> "Alarm":
        return self.at(block)


@torch.no_grad()
def first_not_finite(model: AnyModel, batch: Batch) -> str | None:
    """The first tap of the batch's forward pass that is not finite; None where all up to the loss are."""
    alarm = Alarm()
    with torch.compiler.set_stance("force_eager"):  # a compiled block could not stop to look
        x_BLD = features_of(model, batch, alarm)
        alarm("logits", model.head(x_BLD, model.vocab_matrix))
    return alarm.found[0] if alarm.found else None
