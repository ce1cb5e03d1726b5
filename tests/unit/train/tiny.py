"""A run small enough to be made a hundred times in a test, and what is left of it."""

import json
import os
import signal
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from cutaway import spec
from cutaway.spec.presets import quick
from cutaway.train.progress import Silent
from cutaway.train.runner import Runner
from cutaway.weights.run import list_checkpoints

TEXT = "".join(f"line {i}: {i * i % 97} and {i % 7}\n" for i in range(300))
RUN = spec.Run(
    steps=12,
    batch=4,
    length=16,
    accumulate=2,
    optimizer=spec.AdamW(rate=1e-2),
    schedule=spec.Cosine(warmup=3, floor=0.1),
    precision="fp32",
    compile="off",
    threads=1,
)
OPTIMIZERS = {"adamw": spec.AdamW(rate=1e-2), "muon": spec.Muon(rate=0.02)}


def recipe(text: Path, **run) -> spec.Recipe:
    """Two layers with dropout, on bytes."""
    return spec.Recipe(
        "tiny",
        quick(layers=2, width=16, heads=2, dropout=0.2),
        spec.Text((str(text),), tokenizer="bytes", split="tail"),
        replace(RUN, **run),
    )


class Stop(Silent):
    """Sends this process a signal after one of its steps."""

    def __init__(self, step: int, number: int = signal.SIGUSR1):
        self.at, self.number = step, number

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        if done == self.at:
            os.kill(os.getpid(), self.number)


def train(recipe: spec.Recipe, out: Path, **options) -> Path:
    """Train without an interruption; returns the directory."""
    resume = options.pop("resume", False)
    Runner(recipe, out, **options).train(resume)
    return out


def remains(out: Path) -> dict[str, object]:
    """What two runs that are the same have in common to the last bit: weights, optimiser state, losses."""
    newest = list_checkpoints(out)[-1]
    numbers = json.loads((newest / "state.json").read_text())
    return {
        "step": newest.name,
        "weights": (newest / "model.safetensors").read_bytes(),
        "optimizer": (newest / "training.safetensors").read_bytes(),
        "counters": {name: value for name, value in numbers.items() if name != "seconds"},
        "figures": figures(out),
    }


def figures(out: Path) -> list[dict[str, object]]:
    """The lines of metrics without the time they took; losses as the four bytes they were."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        line.pop("seconds", None)
        if line.get("loss") is not None:
            line["loss"] = struct.pack("<f", line["loss"])
    return lines
