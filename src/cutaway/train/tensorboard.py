"""A run's metrics as TensorBoard event files, made from `metrics.jsonl` whenever somebody wants them."""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from cutaway import store
from cutaway.errors import InputMissingError, MissingExtraError
from cutaway.train.records import METRICS

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"


def find_writer() -> type["SummaryWriter"]:
    """torch's writer of event files; MissingExtraError without the package it needs."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingExtraError("tensorboard") from None
    return SummaryWriter


def write_events(run: str | Path) -> Path:
    """Write the event files of a run, finished or not, over those of before; returns their folder.

    Raises InputMissingError where there are no metrics, MissingExtraError without the extra `tensorboard`.
    """
    writer_class = find_writer()
    lines = [json.loads(line) for line in store.read_lines(Path(run) / METRICS)]
    if not lines:
        raise InputMissingError(f"{Path(run) / METRICS}: no metrics to convert; name the directory of a run")
    folder = Path(run) / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    seconds = 0.0
    with writer_class(str(folder)) as writer:
        for line in lines:
            step, seconds = line["step"], line.get("seconds", seconds)
            for name, value in line.items():
                if isinstance(value, str):
                    writer.add_text(name, f"    {value}".replace("\n", "\n    "), step, walltime=seconds)
                elif name != "step" and value is not None:  # null: it was not finite
                    writer.add_scalar(name, float(value), step, walltime=seconds)
    return folder
