"""Which weights a run ends with: those of its last step, the mean of its last checkpoints, or the best.

Averaging: Vaswani et al. 2017, section 6.1. Early stopping (Prechelt 1998): training ends after some
evaluations without a better one, and the weights of the best come back.
"""

import json
import re
import shutil
from pathlib import Path

import torch
from torch import nn

from cutaway import store
from cutaway.errors import CheckpointSaveError
from cutaway.train.checkpoint import FOLDER, owned_weights, write_tensors
from cutaway.weights.run import check_weights, list_checkpoints, read_tensors

WEIGHTS = "model.safetensors"
NAME = re.compile(r"best-(\d{6,})")
FIGURE = "validation_sample"


def take_mean(model: nn.Module, run: Path, count: int) -> None:
    """Give the model the mean of its own weights and those of the `count` - 1 newest checkpoints of the run.

    Raises FileFormatError where one of them is damaged or another model's, the model then unchanged.
    """
    total = {name: weight.double() for name, weight in owned_weights(model).items()}
    folders = list_checkpoints(run)[len(list_checkpoints(run)) - (count - 1) :] if count > 1 else []
    for folder in folders:
        store.verify_folder(folder)
        weights = read_tensors(folder / WEIGHTS)
        check_weights(model, weights, folder / WEIGHTS)
        for name, weight in weights.items():
            total[name] += weight.to(total[name].device)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(total[name] / (1 + len(folders)))


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
    """Give the model the best weights; returns their step, None where none were kept.

    Raises FileFormatError where they are damaged or another model's.
    """
    folders = best_folders(run)
    if not folders:
        return None
    folder = folders[-1]
    store.verify_folder(folder)
    weights = read_tensors(folder / WEIGHTS)
    check_weights(model, weights, folder / WEIGHTS)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
    return int(folder.name.removeprefix("best-"))


def best_folders(run: Path) -> list[Path]:
    """The folders of best weights, oldest first: one, or two where writing the second was interrupted."""
    found = [path for path in (run / FOLDER).glob("best-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("best-")))
