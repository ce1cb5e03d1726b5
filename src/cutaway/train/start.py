"""Fine-tuning: training that begins with the weights and the tokenizer of another model (`Recipe.start`).

The two models must be the same function up to their heads. They may differ in the head, in dropout, in
initial values and in how many positions they learn; of those the vectors that both have are taken.
"""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cutaway import spec
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, InputMissingError
from cutaway.models import AnyModel
from cutaway.models.adapt import adapt, merged_weights, trained
from cutaway.spec.write import write_model
from cutaway.train.records import plain_values, read_records, with_head
from cutaway.weights.loading import Loaded, read_any
from cutaway.weights.run import counted

FACT = "start"  # in facts.json: the digest of the weights that a run began with
HEAD, POOLER = "head.", "head.pooler."
POSITIONS = "position.weight"


@dataclass(frozen=True)
class Start:
    """What a run begins with: a model, and the digest of its weights."""

    found: Loaded
    digest: str

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer."""
        assert self.found.tokenizer is not None
        return self.found.tokenizer

    @property
    def template(self) -> str | None:
        """Its chat template."""
        return self.found.template

    def model_of(self, recipe: spec.Recipe) -> spec.Model:
        """The model that a recipe asks for: its own, or this one with the recipe's head.

        Raises ConfigError for a head that a model of this kind has no place for.
        """
        if recipe.model is not None:
            return recipe.model
        plan = self.found.model.plan
        if recipe.head is not None and not isinstance(plan, spec.Single):
            raise ConfigError(
                f"head: {recipe.start} is a {type(plan).__name__}, which keeps its own; leave it out"
            )
        return with_head(plan, recipe.head)

    def widened(self, plan: spec.Model) -> spec.Model:
        """A model fitted to its data, with as many vectors for tokens as this one has: some published models
        have more than their tokenizers need.
        """
        fitted: Any = plan
        changed: dict[str, Any] = {}
        for side in ("input", "source", "target"):
            own, other = getattr(plan, side, None), getattr(self.found.model.plan, side, None)
            if isinstance(own, spec.Tokens) and isinstance(other, spec.Tokens) and own.vocab < other.vocab:
                changed[side] = replace(own, vocab=other.vocab)
        return replace(fitted, **changed)

    def take(self, model: AnyModel, labels: tuple[str, ...] = ()) -> list[str]:
        """Give a new model every parameter that fits; the names of those that are new.

        A head is taken where it is the same, and sorts into the same `labels` if it sorts. Raises ConfigError
        naming the first difference between the specs that is more than the head, dropout, initial values or
        the number of positions.
        """
        before, now = self.found.model.plan, model.plan
        self.check_like(now)
        old, own = merged_weights(self.found.model), dict(model.named_parameters())
        poolers = [getattr(getattr(plan, "head", None), "pooler", None) for plan in (before, now)]
        alike = [HEAD] if before.head == now.head and self.found.labels in ((), labels) else []
        alike += [POOLER] if poolers[0] == poolers[1] else []
        new: list[str] = []
        with torch.no_grad():
            for name, parameter in own.items():
                fits = name in old and (not name.startswith(HEAD) or name.startswith(tuple(alike)))
                if fits and old[name].shape == parameter.shape:
                    parameter.copy_(old[name])
                elif fits and name.endswith(POSITIONS):
                    rows = min(len(parameter), len(old[name]))
                    parameter[:rows] = old[name][:rows]
                    if rows < len(parameter):
                        new.append(f"{name}[{rows}:]")
                else:
                    new.append(name)
        return new

    def told(self, model: nn.Module, new: list[str]) -> str:
        """A line about what was taken and what is new."""
        taken = [name for name, _ in model.named_parameters() if name not in new]
        told = f"begins with {self.found.folder}: {counted(taken)} taken, "
        return told + (f"new: {', '.join(new)}" if new else "none new")

    def check_like(self, plan: spec.Model) -> None:
        """Raises ConfigError naming the first value of two specs in which they may not differ."""
        before, now = _compared(self.found.model.plan), _compared(plan)
        for path in dict.fromkeys((*before, *now)):
            old, new = before.get(path, "none"), now.get(path, "none")
            if old != new:
                raise ConfigError(
                    f"start: {self.found.path}: model.{path} is {old} there, {new} here: only the head, "
                    "dropout, init and the number of positions may differ; make them equal, leave model out "
                    "to take that of the start, or leave start out"
                )


def read_start(path: str) -> Start | None:
    """What a recipe's `start` names, in fp32, None for ""; raises as `read_any` does, and ConfigError for a
    model that reads no text.
    """
    if not path:
        return None
    try:
        found = read_any(path, dtype="fp32")
    except InputMissingError as problem:
        raise InputMissingError(f"start: {problem}") from None
    if found.tokenizer is None:
        raise ConfigError(f"start: {path} has no tokenizer; begin with a model that reads text")
    return Start(found, digest_of(found.model))


def digest_of(model: nn.Module) -> str:
    """Changes when, and only when, a weight does: the same for one model in files of two formats."""
    total = hashlib.sha256()
    for name, weight in sorted(merged_weights(model).items()):
        total.update(f"{name} {tuple(weight.shape)} ".encode())
        total.update(weight.contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()


def take_again(recipe: spec.Recipe, facts: dict[str, Any], model: AnyModel, labels: tuple[str, ...]) -> None:
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
    start.take(model, labels)


def check_start(out: Path, path: str) -> None:
    """Refuse a run that began with other weights than now stand where it began: ConfigError says so."""
    start, facts = read_start(path), read_records(out).facts
    if start is not None and facts.get(FACT) not in (None, start.digest):
        raise ConfigError(
            f"{out}: began with other weights of {path}, which was trained anew since: "
            "choose another --out, or delete this run too"
        )


def leave_to_train(model: AnyModel, recipe: spec.Recipe, new: list[str]) -> None:
    """Adapt and freeze a model as its recipe says; `new` are the parameters that it took from nowhere.

    Raises ConfigError as `adapt` does, and where an adapter would leave a new one as it was drawn.
    """
    adapt(model, recipe.adapter, recipe.frozen, recipe.run.seed)
    if recipe.adapter is not None:
        learned = trained(model)
        if lost := [name for name in new if name.partition("[")[0] not in learned]:
            part = lost[0].partition(".")[0]
            raise ConfigError(
                f"adapter.whole: {lost[0]} is new here and would never be trained; name it, as in "
                f'whole = ["{part}.**"]'
            )


def _compared(plan: spec.Model) -> dict[str, Any]:
    return {path: value for path, value in plain_values(write_model(plan)) if not _free(path)}


def _free(path: str) -> bool:
    names = path.split(".")
    return names[0] in ("head", "init") or "dropout" in names or names[-2:] == ["position", "length"]
