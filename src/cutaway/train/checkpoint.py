"""Checkpoints: everything training needs to go on as if it had never stopped.

A checkpoint is a folder `checkpoints/step-000123` with `model.safetensors` (the fp32 weights under the
model's own
names), `training.safetensors` (optimiser state), `state.json` (counters) and the store's manifest. It appears
whole or not at all.
"""

import json
import re
import shutil
import warnings
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from cutaway import store
from cutaway.errors import CheckpointSaveError, FileFormatError, InputMissingError
from cutaway.train.loop import Training

FORMAT = 1
KEPT = 2  # the newest, and the one before it in case the newest turns out damaged


def save_checkpoint(run: Path, training: Training, counters: dict[str, float]) -> Path:
    """Write the checkpoint of the step just done; older ones beyond two go once the new one is on disk.

    Raises CheckpointSaveError with everything before untouched.
    """
    target = run / "checkpoints" / f"step-{training.done:06d}"
    if target.exists():
        return target
    weights = owned_weights(training.working.master)
    state = training.optimizers.state_dict()
    numbers = {"format": FORMAT, **training.state_dict(), **counters}

    def fill(folder: Path) -> None:
        safetensors.torch.save_file(weights, folder / "model.safetensors")
        safetensors.torch.save_file(state, folder / "training.safetensors")
        (folder / "state.json").write_text(json.dumps(numbers) + "\n")

    need = sum(t.numel() * t.element_size() for t in (*weights.values(), *state.values()))
    store.write_folder(target, fill, need=need, failure=CheckpointSaveError)
    for old in list_checkpoints(run)[:-KEPT]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def owned_weights(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter once, by name."""
    return {name: p.detach().contiguous() for name, p in model.named_parameters()}


def list_checkpoints(run: Path) -> list[Path]:
    """The run's checkpoints, oldest first."""
    found = [p for p in (run / "checkpoints").glob("step-*") if re.fullmatch(r"step-\d{6,}", p.name)]
    return sorted(found, key=lambda p: int(p.name[5:]))


def newest_checkpoint(run: Path) -> Path:
    """The newest checkpoint whose every byte is as it was written; a damaged one is passed over with a
    warning.

    Raises InputMissingError where there is none, FileFormatError where none is whole.
    """
    folders, problem = list_checkpoints(run), None
    for folder in reversed(folders):
        try:
            store.verify_folder(folder)
            return folder
        except FileFormatError as error:
            problem = error
            warnings.warn(f"{error}; trying the checkpoint before it", stacklevel=2)
    if problem is not None:
        raise problem
    raise InputMissingError(
        f"{run}: no checkpoint to go on from; train without --resume into another directory"
    )


def load_checkpoint(folder: Path, training: Training) -> dict[str, float]:
    """Stand where the checkpoint was written; returns its counters.

    Raises FileFormatError where names or shapes do not fit the model.
    """
    path = folder / "model.safetensors"
    weights, own = safetensors.torch.load_file(path), dict(training.working.master.named_parameters())
    if missing := sorted(own.keys() ^ weights.keys()):
        raise FileFormatError(path, f"its weights are not this model's: {', '.join(missing[:4])}")
    with torch.no_grad():
        for name, parameter in own.items():
            if parameter.shape != weights[name].shape:
                raise FileFormatError(
                    path, f"{name} is {tuple(weights[name].shape)}, not {tuple(parameter.shape)}"
                )
            parameter.copy_(weights[name])
    state = folder / "training.safetensors"
    training.optimizers.load_state_dict(safetensors.torch.load_file(state), str(state))
    try:
        counters = json.loads((folder / "state.json").read_text())
        if counters.pop("format") != FORMAT:
            raise FileFormatError(
                folder / "state.json", f"format is not {FORMAT}: written by another version"
            )
        training.load_state_dict({"done": counters.pop("done"), "skipped": counters.pop("skipped")})
    except (KeyError, TypeError, ValueError) as problem:
        raise FileFormatError(folder / "state.json", f"not a training state ({problem})") from None
    return counters
