"""Fine-tuning: training that begins with the weights and the tokenizer of another run (`Recipe.start`).

The two models must be the same function up to their heads. They may differ in the head, in dropout, in
initial values and in how many positions they learn; of those the vectors that both have are taken.
"""

import hashlib
from dataclasses import dataclass
from typing import Any

import torch

from cutaway import spec
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, InputMissingError
from cutaway.models import AnyModel
from cutaway.spec.write import write_model
from cutaway.train.records import plain_values
from cutaway.weights.run import Checkpoint, counted, read_run

FACT = "start"  # in facts.json: the digest of the weights that a run began with
HEAD = "head."
POSITIONS = "position.weight"


@dataclass(frozen=True)
class Start:
    """A run that another begins with."""

    found: Checkpoint
    digest: str

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        return self.found.tokenizer

    def take(self, model: AnyModel) -> str:
        """Give a new model every parameter that fits, and say in a line what was taken and what is new.

        Raises ConfigError naming the first difference between the specs that is more than the head, dropout,
        initial values or the number of positions.
        """
        check_like(self.found, model.plan)
        old, own = (dict(some.named_parameters()) for some in (self.found.model, model))
        same_head = self.found.model.plan.head == model.plan.head
        new: list[str] = []
        with torch.no_grad():
            for name, parameter in own.items():
                fits = name in old and (same_head or not name.startswith(HEAD))
                if fits and old[name].shape == parameter.shape:
                    parameter.copy_(old[name])
                elif fits and name.endswith(POSITIONS):
                    rows = min(len(parameter), len(old[name]))
                    parameter[:rows] = old[name][:rows]
                    if rows < len(parameter):
                        new.append(f"{name}[{rows}:]")
                else:
                    new.append(name)
        taken = [name for name in own if name not in new]
        told = f"begins with {self.found.folder}: {counted(taken)} taken, "
        return told + (f"new: {', '.join(new)}" if new else "none new")


def read_start(path: str) -> Start | None:
    """The run that a recipe's `start` names, None for ""; raises as `read_run` does."""
    if not path:
        return None
    try:
        found = read_run(path)
    except InputMissingError as problem:
        raise InputMissingError(f"start: {problem}") from None
    digest = hashlib.sha256((found.folder / "model.safetensors").read_bytes()).hexdigest()
    return Start(found, digest)


def take_again(recipe: spec.Recipe, facts: dict[str, Any], model: AnyModel) -> None:
    """Give a model that goes on from no checkpoint the weights its run began with, if it began with any.

    Raises InputMissingError where they are gone, ConfigError where they are not the same.
    """
    if not recipe.start:
        return
    why = "the run has no checkpoint yet, and so begins with these weights again"
    try:
        start = read_start(recipe.start)
    except InputMissingError as problem:
        raise InputMissingError(f"{problem}; {why}") from None
    assert start is not None
    if start.digest != facts.get(FACT):
        raise ConfigError(
            f"start: {start.found.folder} holds other weights than when the run began, but {why}: "
            "restore them, or begin a new run"
        )
    start.take(model)


def check_like(found: Checkpoint, plan: spec.Model) -> None:
    """Raises ConfigError naming the first value of two specs in which they may not differ."""
    before, now = _compared(found.model.plan), _compared(plan)
    for path in dict.fromkeys((*before, *now)):
        old, new = before.get(path, "none"), now.get(path, "none")
        if old != new:
            raise ConfigError(
                f"start: {found.run}: model.{path} is {old} there, {new} here: only the head, dropout, init "
                "and the number of positions may differ; make them equal, or leave start out"
            )


def _compared(plan: spec.Model) -> dict[str, Any]:
    return {path: value for path, value in plain_values(write_model(plan)) if not _free(path)}


def _free(path: str) -> bool:
    names = path.split(".")
    return names[0] in ("head", "init") or "dropout" in names or names[-2:] == ["position", "length"]
