"""Checkpoints: everything training needs to go on as if it had never stopped.

A checkpoint is a folder `checkpoints/step-000123` with `model.safetensors` (the fp32 weights that are
trained, under the model's own names), `training.safetensors` (optimiser state), `state.json` (counters) and
the store's manifest. It appears whole or not at all.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway import store
from cutaway.errors import CheckpointSaveError, FileFormatError
from cutaway.models.adapt import trained
from cutaway.train.loop import Training
from cutaway.weights.run import check_weights, list_checkpoints, read_tensors, step_of
from cutaway.weights.safe import put_tensors

FORMAT = 1
FOLDER = "checkpoints"
REPLACED = "replaced-"  # in front of the name of one that is being written anew
KEPT = 2  # the newest, and the one before it in case the newest turns out damaged


def save_checkpoint(
    run: Path, training: Training, counters: Mapping[str, float], every: int = 0, count: int = 0
) -> Path:
    """Write the checkpoint of the step just done; once it is on disk all but the two newest go, and but the
    `count` newest of those at every `every` steps.

    Raises CheckpointSaveError with everything before untouched.
    """
    target = run / FOLDER / f"step-{training.done:06d}"
    if target.exists():
        return target
    weights = trained_weights(training.working.master)
    state = training.optimizers.state_dict()
    numbers = {"format": FORMAT, **training.state_dict(), **counters}

    def fill(folder: Path) -> None:
        write_tensors(folder / "model.safetensors", weights)
        write_tensors(folder / "training.safetensors", state)
        (folder / "state.json").write_text(json.dumps(numbers) + "\n")

    need = sum(t.numel() * t.element_size() for t in (*weights.values(), *state.values()))
    store.write_folder(target, fill, need=need, failure=CheckpointSaveError)
    kept = {*list_checkpoints(run)[-KEPT:], *regular_checkpoints(run, every, count)}
    for old in list_checkpoints(run):
        if old not in kept:
            shutil.rmtree(old, ignore_errors=True)
    return target


@contextmanager
def replacing(run: Path, step: int) -> Iterator[None]:
    """Inside, the checkpoint of a step can be written anew. The old one goes when that is on disk; where it
    never comes to that, the old one comes back, after a kill by `bring_back`.
    """
    folder = run / FOLDER / f"step-{step:06d}"
    if folder.exists():
        folder.rename(folder.with_name(REPLACED + folder.name))
    try:
        yield
    finally:
        bring_back(run)


def bring_back(run: Path) -> None:
    """Give checkpoints whose replacement was interrupted their names back, and delete those replaced."""
    for old in (run / FOLDER).glob(f"{REPLACED}step-*"):
        folder = old.with_name(old.name.removeprefix(REPLACED))
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)


def regular_checkpoints(run: Path, every: int, count: int) -> list[Path]:
    """The `count` newest checkpoints whose steps `every` divides, oldest first: no interruption left them."""
    regular = [folder for folder in list_checkpoints(run) if every and step_of(folder) % every == 0]
    return regular[len(regular) - min(count, len(regular)) :]


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter that is trained once, by name."""
    return {name: parameter.detach() for name, parameter in trained(model).items()}


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """A safetensors file, written as it goes: no second copy in memory, and a full disk is an OSError.

    (The library's own writer reports a full disk as an error of its own kind.)
    """
    with open(path, "xb") as file:
        put_tensors(file, tensors)


def put_aside(run: Path, good: Path) -> None:
    """Give damaged checkpoints newer than `good` another name, so that training can write theirs again."""
    folders = list_checkpoints(run)
    for folder in folders[folders.index(good) + 1 :]:
        damaged = folder.with_name(f"damaged-{folder.name}")
        shutil.rmtree(damaged, ignore_errors=True)
        folder.rename(damaged)


def load_checkpoint(folder: Path, training: Training) -> dict[str, float]:
    """Stand where the checkpoint was written; returns its counters.

    Raises FileFormatError where names or shapes do not fit the model, or the state not its optimisers; the
    weights are then as they were.
    """
    path, state_path = folder / "model.safetensors", folder / "training.safetensors"
    model, weights, state = training.working.master, read_tensors(path), read_tensors(state_path)
    own = trained(model)
    check_weights(own, weights, path)
    counters = read_counters(folder / "state.json")
    try:
        standing = {key: int(counters.pop(key)) for key in training.state_dict()}
    except KeyError as missing:
        raise FileFormatError(folder / "state.json", f"{missing} is missing") from None
    training.optimizers.load_state_dict(state, str(state_path))  # checks all of it first
    with torch.no_grad():  # copied, not assigned: the optimisers know the parameters by identity
        for name, parameter in own.items():
            parameter.copy_(weights[name])
    training.working.refresh()
    training.load_state_dict(standing)
    return counters


def read_counters(path: Path) -> dict[str, float]:
    """The numbers of a checkpoint's `state.json`, without its format."""
    try:
        counters = json.loads(path.read_bytes())
        if counters.pop("format") != FORMAT:
            raise FileFormatError(path, f"format is not {FORMAT}: written by another version")
        return {str(key): float(value) for key, value in counters.items()}
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as problem:
        raise FileFormatError(path, f"not a training state ({problem})") from None
