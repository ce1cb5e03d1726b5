"""How a model is trained, as data: the data, the optimiser, the schedule, and what the machine should do.

Nothing here changes what function the model is; `spec.model` says that.
"""

from dataclasses import dataclass, field
from typing import Literal

from cutaway.spec.model import Model


class Data:
    """Slot: where training examples come from."""


class Optimizer:
    """Slot: how gradients become steps."""


class Schedule:
    """Slot: how the rate changes over the steps."""


@dataclass(frozen=True)
class Text(Data):
    """Text for next-token prediction. `source`: files, folders, .gz, or `stdlib:` (this Python's source).

    `split`: `file` puts whole documents aside by a hash of their names, `tail` the last characters.
    """

    source: tuple[str, ...]
    tokenizer: Literal["bytes", "characters", "bpe"] = "bpe"
    vocab: int = 4096
    split: Literal["file", "tail"] = "file"
    validation: float = 0.1


@dataclass(frozen=True)
class Reversal(Data):
    """Made-up strings to be reversed or sorted, `shortest` to `longest` long, over `letters` letters.

    Up to three lengths between the two are kept from training, to be judged by.
    """

    letters: int = 26
    shortest: int = 1
    longest: int = 20


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Loshchilov & Hutter 2019. Only matrices decay."""

    rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    decay: float = 0.1


@dataclass(frozen=True)
class Muon(Optimizer):
    """Jordan et al. 2024 for the matrices inside the blocks; `others` for all the rest."""

    rate: float = 0.02
    momentum: float = 0.95
    decay: float = 0.0
    others: AdamW = field(default_factory=lambda: AdamW(rate=4e-3, decay=0.0))


@dataclass(frozen=True)
class Cosine(Schedule):
    """Linear warm-up over `warmup` steps, then a cosine down to `floor` times the rate."""

    warmup: int = 100
    floor: float = 0.1


@dataclass(frozen=True)
class StableDecay(Schedule):
    """Linear warm-up over `warmup` steps, flat, then linear to `floor` over the last share `decay`."""

    warmup: int = 0
    decay: float = 0.5
    floor: float = 0.0


@dataclass(frozen=True)
class Run:
    """One training run. `length` tokens an example, `batch` examples a step in `accumulate` parts.

    `precision` and `compile` auto choose what this machine does faster, but `compile` auto never compiles a
    Paired. Every `evaluate`, `save` and `sample` steps the validation loss is taken, a checkpoint written, a
    text sampled; 0 only at the end. `threads` 0 takes every core. `device` auto takes a GPU where there is
    one.
    """

    steps: int = 1000
    batch: int = 32
    length: int = 256
    accumulate: int = 1
    seed: int = 0
    clip: float | None = 1.0
    optimizer: Optimizer = field(default_factory=Muon)
    schedule: Schedule = field(default_factory=StableDecay)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 0
    evaluate: int = 0
    save: int = 0
    sample: int = 0


@dataclass(frozen=True)
class Recipe:
    """All that names a run: which model, on which data, trained how. What a `recipe.toml` holds."""

    name: str
    model: Model
    data: Data
    run: Run = field(default_factory=Run)
