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

from cutaway import spec, store
from cutaway.errors import CheckpointSaveError
from cutaway.train.checkpoint import FOLDER, owned_weights, regular_checkpoints, write_tensors
from cutaway.weights.run import check_weights, read_tensors, step_of

WEIGHTS = "model.safetensors"
NAME = re.compile(r"best-(\d{6,})")
FIGURE = "validation_sample"


def take(model: nn.Module, plan: spec.Run, run: Path, step: int) -> str:
    """Give the model the weights that a run which ends after `step` ends with; says which, "" for the last.

    Raises FileFormatError where a checkpoint that is needed is damaged or another model's.
    """
    if plan.average > 1:
        count = take_mean(model, run, step, plan.save, plan.average)
        return f"the weights are the mean of the last {count} checkpoints"
    if plan.patience and (best := take_best(model, run)) is not None:
        return f"the weights are those after step {best}"
    return ""


def take_mean(model: nn.Module, run: Path, step: int, every: int, count: int) -> int:
    """Give the model the mean of its own weights and those of the `count` - 1 newest checkpoints that the run
    wrote at every `every` steps before `step`; returns how many these were.
    """
    total = {name: weight.double() for name, weight in owned_weights(model).items()}
    before = [folder for folder in regular_checkpoints(run, every, count) if step_of(folder) < step]
    folders = before[max(0, len(before) - (count - 1)) :]
    for folder in folders:
        for name, weight in read_weights(model, folder).items():
            total[name] += weight.to(total[name].device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(total[name] / (1 + len(folders)))
    return 1 + len(folders)


def read_weights(model: nn.Module, folder: Path) -> dict[str, Tensor]:
    """The weights in a folder, held against the model; FileFormatError where they are damaged or others."""
    store.verify_folder(folder)
    weights = read_tensors(folder / WEIGHTS)
    check_weights(model, weights, folder / WEIGHTS)
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
    """Write the weights as the best so far; the best before them goes once these are on disk."""
    target = run / FOLDER / f"best-{step:06d}"
    if not target.exists():
        weights = owned_weights(model)
        need = sum(t.numel() * t.element_size() for t in weights.values())
        store.write_folder(
            target,
            lambda folder: write_tensors(folder / WEIGHTS, weights),
            need=need,
            failure=CheckpointSaveError,
        )
    for old in best_folders(run):
        if old != target:
            shutil.rmtree(old, ignore_errors=True)


def take_best(model: nn.Module, run: Path) -> int | None:
    """Give the model the best weights; returns their step, None where none were kept."""
    folders = best_folders(run)
    if not folders:
        return None
    weights = read_weights(model, folders[-1])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return best_step(folders[-1])


def forget_later(run: Path, step: int) -> None:
    """Delete best weights of steps after `step`, where a run goes on from an older checkpoint."""
    for folder in best_folders(run):
        if best_step(folder) > step:
            shutil.rmtree(folder, ignore_errors=True)


def best_folders(run: Path) -> list[Path]:
    """The folders of best weights, oldest first: one, or two where writing the second was interrupted."""
    found = [path for path in (run / FOLDER).glob("best-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=best_step)


def best_step(folder: Path) -> int:
    """The step a folder of best weights is named after."""
    return int(folder.name.removeprefix("best-"))
