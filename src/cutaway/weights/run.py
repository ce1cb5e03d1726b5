"""The run directory, read: from a folder that training wrote to a model, strictly.

    RUN/recipe.toml      what was asked, with every default
    RUN/spec.json        the model
    RUN/tokenizer.json
    RUN/facts.json       what makes the run repeatable
    RUN/metrics.jsonl
    RUN/chat_template.jinja                          of a run that began with a model that talks
    RUN/frozen/{model.safetensors, manifest.json}    the parameters that stand still, where some do
    RUN/checkpoints/step-000123/{model.safetensors, training.safetensors, state.json, manifest.json}

The weights are fp32, under the model's own names, every parameter once; a checkpoint holds those that are
trained. They are mapped, not copied: what a model of N bytes costs is N bytes of file cache, and writing to
it leaves the file alone.
"""

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cutaway import spec, store
from cutaway.data.loading import ROLES, load_tokenizer
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, nearest
from cutaway.models import AnyModel, build
from cutaway.models.adapt import adapt, still, trained
from cutaway.spec.read import read_model, read_recipe, read_table
from cutaway.weights.safe import read_tensors

NAME = re.compile(r"step-(\d{6,})")
FROZEN, WEIGHTS = "frozen", "model.safetensors"
MOST_NAMED = 4
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Checkpoint:
    """A model as it was after `step` steps, in evaluation mode, with all that belongs to it."""

    model: AnyModel
    tokenizer: Tokenizer
    recipe: spec.Recipe
    run: Path
    folder: Path
    step: int
    labels: tuple[str, ...] = ()  # of the classes that it scores


def read_run(
    path: str | Path,
    *,
    step: int | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Checkpoint:
    """The model of a run's newest whole checkpoint, of the one at `step`, or of the one that `path` names.

    `dtype` ("fp32", "bf16" or one of torch's) is what the weights are turned into; None keeps them. Raises
    InputMissingError where there is nothing to read, FileFormatError naming the file and the rule it
    breaks; only of the newest checkpoint, chosen here, a damaged one is passed over, with a warning.
    """
    kind = as_dtype(dtype)
    run, folder = find_checkpoint(path, step)
    plan, recipe = read_spec(run / "spec.json"), read_asked(run / "recipe.toml")
    tokenizer = own_tokenizer(run)
    check_vocabulary(run / "tokenizer.json", tokenizer, plan)
    model = build(plan, device="meta")
    if next(model.buffers(), None) is not None:  # of a part from outside: buffers are made, not saved
        model = build(plan)
    adapt(model, recipe.adapter, recipe.frozen)
    assign_frozen(model, run)
    assign(model, trained(model), read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    model = model.eval().to(device=device, dtype=kind)
    labels = own_labels(run / "facts.json", plan)
    return Checkpoint(model, tokenizer, recipe, run, folder, step_of(folder), labels)


def find_checkpoint(path: str | Path, step: int | None = None) -> tuple[Path, Path]:
    """The run and the checkpoint folder that a path (and a step) mean, verified byte for byte."""
    path = Path(path)
    if (path / "spec.json").is_file():
        run, folder = path, None if step is None else path / "checkpoints" / f"step-{step:06d}"
    elif NAME.fullmatch(path.resolve().name) and (path.resolve().parents[1] / "spec.json").is_file():
        if step is not None:
            raise ConfigError(f"{path} is a checkpoint already: leave out step {step}, or name the run")
        run, folder = path.resolve().parents[1], path
    else:
        raise InputMissingError(no_model(path))
    if folder is None:
        return run, newest_checkpoint(run)
    if not folder.is_dir():
        steps = [str(step_of(known)) for known in list_checkpoints(run)]
        raise InputMissingError(f"{run}: no checkpoint at step {step}; {nearest(str(step), steps)}")
    store.verify_folder(folder)
    return run, folder


def no_model(path: Path) -> str:
    """What is wrong with a path where there is no model, and what to give instead."""
    if (path / "adapter_config.json").is_file():
        return f"{path}: holds an adapter, no model; load what it belongs to, with this as `adapter`"
    return (
        f"{path}: {'neither a run nor a checkpoint' if path.exists() else 'no such folder'}; "
        "give a run directory (with spec.json), a checkpoint in it (RUN/checkpoints/step-000123), or a "
        "Hugging Face folder (with config.json)"
    )


def list_checkpoints(run: Path) -> list[Path]:
    """The checkpoint folders of a run, oldest first, whole or not."""
    found = [path for path in (Path(run) / "checkpoints").glob("step-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=step_of)


def whole_checkpoint(run: Path) -> tuple[Path | None, list[FileFormatError]]:
    """The newest checkpoint whose every byte is as it was written, and what is wrong with newer ones.

    None where the run has no checkpoint at all. Raises FileFormatError where it has some, all damaged.
    """
    problems: list[FileFormatError] = []
    for folder in reversed(list_checkpoints(run)):
        try:
            store.verify_folder(folder)
            return folder, problems
        except FileFormatError as problem:
            problems.append(problem)
    if problems:
        raise problems[0]
    return None, problems


def newest_checkpoint(run: Path) -> Path:
    """The newest checkpoint that is whole to the last byte; damaged ones are passed over with a warning.

    Raises InputMissingError where there is none, FileFormatError where none is whole.
    """
    folder, problems = whole_checkpoint(run)
    for problem in problems:
        warnings.warn(f"{problem}; trying the checkpoint before it", stacklevel=2)
    if folder is None:
        raise InputMissingError(f"{run}: no checkpoint yet; train for longer, or save more often")
    return folder


def step_of(folder: Path) -> int:
    """The step a checkpoint folder is named after."""
    found = NAME.fullmatch(Path(folder).resolve().name)
    assert found is not None
    return int(found[1])


def read_spec(path: Path) -> spec.Model:
    """The model a `spec.json` describes; FileFormatError where it describes none."""
    table = read_table(path)
    try:
        return read_model(table, "spec")
    except ConfigError as problem:
        raise FileFormatError(path, str(problem)) from None


def read_asked(path: Path) -> spec.Recipe:
    """What a run's `recipe.toml` asked for; FileFormatError where it is none."""
    try:
        return read_recipe(path)
    except ConfigError as problem:
        raise FileFormatError(path, str(problem).removeprefix(f"{path}: ")) from None


def assign(model: nn.Module, own: Mapping[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Gives a model those of its weights that are `own`, without a copy; raises as `check_weights` does."""
    check_weights(own, tensors, path)
    model.load_state_dict(tensors, strict=False, assign=True)


def assign_frozen(model: nn.Module, run: Path) -> None:
    """Gives a model the weights that stand still in a run, if any do.

    Raises InputMissingError where they are gone, FileFormatError where they are damaged or do not fit.
    """
    if own := still(model):
        if not (run / FROZEN).is_dir():
            raise InputMissingError(f"{run / FROZEN}: missing, and it holds weights of the model: restore it")
        store.verify_folder(run / FROZEN)
        assign(model, own, read_tensors(run / FROZEN / WEIGHTS), run / FROZEN / WEIGHTS)


def check_weights(own: Mapping[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Holds the tensors of a file against parameters: exactly their names, their shapes, fp32.

    Raises FileFormatError naming what is missing, what is too much and its nearest name, what does not fit.
    """
    missing, extra = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if extra:
        hints = [f"{name} ({nearest(name, missing or own, most=1)})" for name in extra[:MOST_NAMED]]
        raise FileFormatError(path, f"{counted(extra)} the model does not have: {'; '.join(hints)}")
    if missing:
        raise FileFormatError(path, f"{counted(missing)} missing: {', '.join(missing[:MOST_NAMED])}")
    for name, parameter in own.items():
        found = tensors[name]
        if found.shape != parameter.shape:
            raise FileFormatError(
                path, f"{name} has shape {tuple(found.shape)}, the model's {tuple(parameter.shape)}"
            )
        if found.dtype != torch.float32:
            raise FileFormatError(path, f"{name} is {found.dtype}, but checkpoints hold torch.float32")


def counted(names: list[str]) -> str:
    """How many tensors."""
    return f"{len(names)} tensor{'s' if len(names) > 1 else ''}"


def check_vocabulary(path: Path, tokenizer: Tokenizer, plan: spec.Model) -> None:
    """Raises FileFormatError where the tokenizer has ids the model has no vectors for."""
    pair = isinstance(plan, spec.Paired | spec.Seq2Seq)
    sides = (plan.source, plan.target) if pair else (getattr(plan, "input", None),)
    for side in sides:
        if isinstance(side, spec.Tokens) and tokenizer.vocab > side.vocab:
            raise FileFormatError(
                path, f"{tokenizer.vocab} ids, but the model knows {side.vocab}: another model's tokenizer"
            )


def own_tokenizer(run: Path) -> Tokenizer:
    """The tokenizer of a run, its digest and the roles of its tokens as facts.json tells them.

    Raises InputMissingError where that is missing, FileFormatError where it does not tell, or tells of
    another tokenizer.
    """
    path = run / "facts.json"
    if not path.is_file():
        raise InputMissingError(
            f"{path}: missing, so nothing tells whether the tokenizer is the run's: restore it"
        )
    facts = read_table(path)
    if "tokenizer" not in facts:
        raise FileFormatError(path, "tokenizer is missing: restore the file, or train again")
    tokenizer = load_tokenizer(run / "tokenizer.json", **read_roles(path, facts))
    check_own(run / "tokenizer.json", tokenizer, facts["tokenizer"])
    return tokenizer


def read_roles(path: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """The roles of a tokenizer's tokens that facts tell; none where they are the usual ones."""
    roles = facts.get("roles", {})
    named = isinstance(roles, dict) and (not roles or roles.keys() == {*ROLES, "ends"})
    if named and roles:
        named = all(roles[role] is None or isinstance(roles[role], str) for role in ROLES)
        named = named and isinstance(roles["ends"], list) and all(type(end) is int for end in roles["ends"])
    if not named:
        raise FileFormatError(path, f"roles do not name tokens as {', '.join(ROLES)} and ends: restore it")
    return roles


def own_labels(path: Path, plan: spec.Model) -> tuple[str, ...]:
    """The names of the classes a run sorts into, from its facts.json; none for another kind of model.

    Raises FileFormatError where they are not as many names as the model has classes.
    """
    if not isinstance(plan, spec.Single) or not isinstance(plan.head, spec.Classify):
        return ()
    labels = read_table(path).get("labels", [])
    right = isinstance(labels, list) and all(isinstance(label, str) for label in labels)
    if not right or len(labels) not in (0, plan.head.classes):
        raise FileFormatError(path, f"labels do not name {plan.head.classes} classes: restore the file")
    return tuple(labels)


def check_own(path: Path, tokenizer: Tokenizer, digest: object) -> None:
    """Raises FileFormatError where a tokenizer is not the one with this digest: another one of as many ids
    would give other numbers without a word.
    """
    if tokenizer.digest != digest:
        raise FileFormatError(
            path,
            "not the tokenizer this run was trained with (facts.json): restore it, or begin a new run",
        )


def as_dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    """torch's name of a floating-point type; ConfigError for what is none."""
    if isinstance(dtype, str):
        if dtype not in DTYPES:
            raise ConfigError(f"dtype {dtype!r}: {nearest(dtype, DTYPES)}")
        return DTYPES[dtype]
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ConfigError(f"dtype {dtype!r}: must be a floating-point type; {nearest('', DTYPES)}")
    return dtype
