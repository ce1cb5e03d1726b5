"""Pairs of sentences from files, and batches of them by a budget of tokens.

Line by line one file is the translation of the other. Only a newline ends a line, or a carriage return and a
newline: the other line breaks of Unicode stand within sentences, often on one side only, and would shift all
pairs behind them. Pairs of like length are read together, as many as the budget holds with their padding
(Vaswani et al. 2017, section 5.1); which ones is settled once, their order anew each epoch.

B batch   M source position   L target position   E pairs (one axis)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import numpy as np

from cutaway import spec
from cutaway.data.batches import permute
from cutaway.data.mixing import mix, seed_key
from cutaway.data.tasks import Pairs
from cutaway.data.text import decode_text, read_bytes
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError, nearest

TIES, ORDER = 1, 2  # what a random number is for, so that no two uses share one


@dataclass(frozen=True)
class Sentences:
    """Sentences and their translations, empty ones among them; `name` is the same on every machine."""

    source: tuple[str, ...]
    target: tuple[str, ...]
    name: str


@dataclass(frozen=True)
class Selection:
    """The pairs to train on, by their numbers, and how many are left out: with an empty side, too long."""

    rows: np.ndarray
    empty: int
    long: int


def read_parallel(plan: spec.Parallel, part: str) -> Sentences:
    """The pairs of a part, which is `plan.train`, `plan.validation` or `plan.test`.

    Raises ConfigError where the two languages are one, InputMissingError where a file is missing or empty,
    FileFormatError where one is not UTF-8 or the two have unequal numbers of lines.
    """
    if plan.source == plan.target:
        raise ConfigError(f"data.target: {plan.target!r} is data.source too; name two languages")
    paths = [_find(Path(plan.folder), f"{part}.{language}") for language in (plan.source, plan.target)]
    source, target = (_lines(path, plan.lower) for path in paths)
    if len(source) != len(target):
        first, last = sorted(zip((len(source), len(target)), paths, strict=True))
        raise FileFormatError(
            first[1],
            f"{first[0]} lines, but {last[1].name} has {last[0]}: line {first[0] + 1} has no translation; "
            "give both files the same lines",
        )
    return Sentences(source, target, f"{part}.{plan.source}-{plan.target}")


def select(
    text: Sentences, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], length: int
) -> Selection:
    """The pairs with a word on either side and at most `length` tokens on both, the end token counted."""
    filled_E = np.array(
        [bool(a.strip() and b.strip()) for a, b in zip(text.source, text.target, strict=True)]
    )
    long_E = np.maximum(_lengths(sources), _lengths(targets)) > length
    rows = np.flatnonzero(filled_E & ~long_E)
    return Selection(rows, int((~filled_E).sum()), int((filled_E & long_E).sum()))


class Batches:
    """Batches of pairs of like length: at most `tokens` on either side, padding and end token counted.

    `sources` and `targets` are ids without start and end tokens; the pairs numbered `rows` are read.
    Raises LimitError where one of them alone is over the budget, or there is none.
    """

    def __init__(
        self,
        sources: Sequence[np.ndarray],
        targets: Sequence[np.ndarray],
        tokens: int,
        seed: int,
        rows: np.ndarray,
    ):
        source_E, target_E = _lengths(sources)[rows], _lengths(targets)[rows]
        longest_E = np.maximum(source_E, target_E)
        if len(longest_E) == 0:
            raise LimitError("no pair to train on: give more text, or raise run.length")
        if longest_E.max() > tokens:
            raise LimitError(
                f"line {rows[longest_E.argmax()] + 1}: {longest_E.max()} tokens on one side, but a step "
                f"reads at most {tokens}; raise run.batch, or lower run.length to leave it out"
            )
        ties_E = mix(mix(seed_key(seed) + np.uint64(TIES)) + rows.astype(np.uint64))
        order_E = np.lexsort((ties_E, source_E, longest_E))
        self.seed = seed
        self._rows = rows[order_E]
        self._edges = _cut(longest_E[order_E], tokens)
        self._sides = source_E[order_E], target_E[order_E]

    @property
    def per_epoch(self) -> int:
        """How many batches hold every pair once."""
        return len(self._edges) - 1

    @cached_property
    def padding(self) -> float:
        """The share of what is read, on both sides, that is padding."""
        sizes = np.diff(self._edges)
        cells = sum((np.maximum.reduceat(side, self._edges[:-1]) * sizes).sum() for side in self._sides)
        return float(1 - sum(side.sum() for side in self._sides) / cells)

    def batch_at(self, step: int) -> np.ndarray:
        """The numbers of the pairs of a step, int64 (B,)."""
        epoch, place = divmod(step, self.per_epoch)
        key = mix(mix(seed_key(self.seed) + np.uint64(epoch)) + np.uint64(ORDER))
        number = permute(np.array([place]), self.per_epoch, key)[0]
        return self._rows[self._edges[number] : self._edges[number + 1]]


def collate(
    sources: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    rows: Sequence[int] | np.ndarray,
    pad: int,
    start: int,
    end: int,
) -> Pairs:
    """The pairs of these numbers as a batch: sources end with `end`, targets have `start` and `end`."""
    first, last = np.array([start]), np.array([end])
    source_BM, source_lengths_B = _padded([(sources[row], last) for row in rows], pad)
    target_BL, target_lengths_B = _padded([(first, targets[row], last) for row in rows], pad)
    return Pairs(source_BM, source_lengths_B, target_BL, target_lengths_B)


def _padded(sequences: Sequence[tuple[np.ndarray, ...]], pad: int) -> tuple[np.ndarray, np.ndarray]:
    lengths_B = np.array([sum(map(len, parts)) for parts in sequences], np.int64)
    ids_BL = np.full((len(sequences), lengths_B.max()), pad, np.int64)
    ids_BL[np.arange(ids_BL.shape[1]) < lengths_B[:, None]] = np.concatenate(list(chain(*sequences)))
    return ids_BL, lengths_B


def _lengths(side: Sequence[np.ndarray]) -> np.ndarray:
    """What the model reads of each sentence: its tokens and the end, or the start and its tokens."""
    return np.array([len(ids) + 1 for ids in side], np.int64)


def _cut(longest_E: np.ndarray, tokens: int) -> np.ndarray:
    """Where batches begin, and the last one ends, in pairs that are sorted by their longer side."""
    edges = [0]
    for place, longest in enumerate(longest_E.tolist()):
        if (place + 1 - edges[-1]) * longest > tokens:
            edges.append(place)
    return np.array([*edges, len(longest_E)])


def _find(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise InputMissingError(f"{folder}: no such folder; check data.folder")
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    there = sorted(path.name for path in folder.iterdir() if path.is_file())
    hint = nearest(name, there) if there else "the folder has no files"
    raise InputMissingError(
        f"{folder / name}: no such file, nor with .gz; {hint}; see data.train, .validation, .test"
    )


def _lines(path: Path, lower: bool) -> tuple[str, ...]:
    text = decode_text(read_bytes(path), path)
    if not text.strip():
        raise InputMissingError(f"{path}: holds no text; give a sentence a line")
    lines = text.removesuffix("\n").split("\n")
    return tuple((line.lower() if lower else line).removesuffix("\r") for line in lines)
