"""Which weights a run ends with: those of its last step, the mean of its last checkpoints, or the best.

Averaging: Vaswani et al. 2017, section 6.1. Early stopping (Prechelt 1998): training ends after some
evaluations without a better one, and the weights of the best come back.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from torch import Tensor, nn

from cutaway import store
from cutaway.errors import CheckpointSaveError
from cutaway.models.adapt import trained
from cutaway.train.checkpoint import FOLDER, regular_checkpoints, trained_weights, write_tensors
from cutaway.train.loop import Training
from cutaway.weights.run import check_weights, list_checkpoints, read_tensors, step_of

WEIGHTS = "model.safetensors"
NAME = re.compile(r"best-(\d{6,})")
FIGURE = "validation_sample"
ENDED = "ended"  # among the counters: training is over, its weights are settled


def take(training: Training, counters: dict[str, float], run: Path) -> str:
    """Give the model the weights that a run which ends here ends with; says which, "" for the last.

    They are read first: on FileFormatError, for a checkpoint that is damaged or another model's, nothing has
    changed. An interruption while they are taken leaves the training not whole, which nobody saves.
    """
    plan, model = training.run, training.working.master
    if plan.average > 1:
        weights, count = mean_weights(model, run, training.done, plan.save, plan.average)
        told = f"the weights are the mean of the last {count} checkpoints"
    elif plan.patience and (best := best_folders(run)):
        weights, told = (
            read_weights(model, best[-1]),
            f"the weights are those after step {best_step(best[-1])}",
        )
    else:
        return ""
    training.whole = False
    with torch.no_grad():
        for name, parameter in trained(model).items():
            parameter.copy_(weights[name])
    training.working.refresh()
    counters[ENDED] = 1.0
    training.whole = True
    return told


def mean_weights(
    model: nn.Module, run: Path, step: int, every: int, count: int
) -> tuple[dict[str, Tensor], int]:
    """The mean of the model's own weights and those of the `count` - 1 newest checkpoints that the run wrote
    at every `every` steps before `step`, in float64; and of how many it is.
    """
    total = {name: weight.double() for name, weight in trained_weights(model).items()}
    before = [folder for folder in regular_checkpoints(run, every, count) if step_of(folder) < step]
    folders = before[max(0, len(before) - (count - 1)) :]
    for folder in folders:
        for name, weight in read_weights(model, folder).items():
            total[name] += weight.to(total[name].device)
    return {name: weight / (1 + len(folders)) for name, weight in total.items()}, 1 + len(folders)


def read_weights(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The weights in a folder, held against the model; FileFormatError where they are damaged or others."""
    store.verify_folder(folder)
    weights = read_tensors(folder / WEIGHTS)
    check_weights(trained(model), weights, folder / WEIGHTS)
    return weights


def better(figures: list[float]) -> bool:
    """Whether the last of some losses is less than every one before it."""
    return all(figures[-1] < before for before in figures[:-1])


def waited(figures: list[float]) -> int:
    """How many evaluations ago the least loss was, the first of equal ones counting."""
    return len(figures) - 1 - figures.index(min(figures)) if figures else 0


def losses_so_far(metrics: Path) -> list[float]:
    """The validation loss of every evaluation during training, from metrics.jsonl; NaN counts as infinite."""
    lines = (json.loads(line) for line in store.read_lines(metrics)) if metrics.exists() else ()
    return [float("inf") if line[FIGURE] is None else float(line[FIGURE]) for line in lines if FIGURE in line]


def keep_best(model: nn.Module, run: Path, step: int) -> None:
    """Write the weights as the best so far. Once they are on disk those before them go, but for what was the
    best when a checkpoint was written: a run that goes on from there may not find these again.
    """
    target = run / FOLDER / f"best-{step:06d}"
    if not target.exists():
        weights = trained_weights(model)
        need = sum(t.numel() * t.element_size() for t in weights.values())
        store.write_folder(
            target,
            lambda folder: write_tensors(folder / WEIGHTS, weights),
            need=need,
            failure=CheckpointSaveError,
        )
    known = best_folders(run)
    kept = {target}
    for checkpoint in list_checkpoints(run):
        kept.update([best for best in known if best_step(best) <= step_of(checkpoint)][-1:])
    for old in known:
        if old not in kept:
            shutil.rmtree(old, ignore_errors=True)


def forget_later(run: Path, step: int) -> None:
    """Delete best weights of steps after `step`, where a run goes on from an older checkpoint."""
    for folder in best_folders(run):
        if best_step(folder) > step:
            shutil.rmtree(folder, ignore_errors=True)


def best_folders(run: Path) -> list[Path]:
    """The folders of best weights, oldest first: the last is the best."""
    found = [path for path in (run / FOLDER).glob("best-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=best_step)


def best_step(folder: Path) -> int:
    """The step a folder of best weights is named after."""
    return int(folder.name.removeprefix("best-"))
