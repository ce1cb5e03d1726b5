"""A tap is a named point where an activation can be read or replaced.

Every forward takes `tap`, calls `tap("name", value)` at points worth naming, and hands `tap.at("child")` to
its children. The default, `off`, returns its argument: eager it costs about 0.1 us, compiled it leaves no
trace. A stack gives each block a recorder whose names are relative to the block (`inside`) and collects what
it saw (`gather`): a full path would differ from block to block and make per-block compilation recompile for
each layer. A loop over positions gives each turn a tap of its own (`during`) and joins what they saw: a name
still fires once. `in_force` lets edits stand for a while: a model called without a tap asks for them
(`standing`).
"""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cutaway.errors import TapError


class Tap:
    """Does nothing: what a forward pass gets when nobody looks."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """The value, or what an edit makes of it."""
        return value

    def at(self, child: str) -> "Tap":
        """The same tap with `child.` in front of every name."""
        return self

    def inside(self, block: str) -> "Tap":
        """A tap of its own for one block, its names relative to the block."""
        return self

    def gather(self, block: str, tap: "Tap") -> None:
        """Take over what the tap handed out by `inside` has seen."""

    def starting(self, first: int) -> "Tap":
        """The same tap for a step of decoding whose first position is `first`."""
        return self

    def during(self, place: int, count: int) -> "Tap":
        """A tap for one turn, `place`, of a loop over `count` positions."""
        return self

    def join(self) -> None:
        """Take over what the turns have seen, one position behind the other along the last axis but one."""

    def wants(self, *names: str) -> bool:
        """Whether somebody reads or edits one of these."""
        return False

    def edits(self, *names: str) -> bool:
        """Whether somebody edits one of these."""
        return False


off = Tap()


class Scene(NamedTuple):
    """Where an edit is applied: the tap's name, what was seen before in the same block, which positions.

    `first` is the position of the value's first row; `whole` is false in a step of decoding and in a turn of
    a loop, and `turn` then says which one, of how many.
    """

    name: str
    recall: Callable[[str], Tensor]
    first: int
    whole: bool
    turn: tuple[int, int] | None = None


class Edit:
    """Replaces a value at a tap. Holds tensors, so that a sweep over edits changes tensors, not code."""

    needs: tuple[str, ...] = ()

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        raise NotImplementedError


@dataclass(eq=False)
class Scale(Edit):
    """value * factor; `factor` broadcasts against the value."""

    factor: Tensor

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        return value * fitting(self.factor, value, scene)


@dataclass(eq=False)
class Add(Edit):
    """value + term."""

    term: Tensor

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        return value + fitting(self.term, value, scene)


@dataclass(eq=False)
class Replace(Edit):
    """`other` in place of the value; it broadcasts against it."""

    other: Tensor

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        return fitting(self.other, value, scene).expand_as(value)


@dataclass(eq=False)
class Copy(Edit):
    """The value seen earlier at another tap of the same block: skips what lies between."""

    source: str

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.source,)

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        return scene.recall(self.source)


@dataclass(eq=False)
class Chain(Edit):
    """Several edits of one value, in turn."""

    edits: tuple[Edit, ...]

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for edit in self.edits for name in edit.needs)

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        for edit in self.edits:
            value = edit(value, scene)
        return value


def fitting(other: Tensor, value: Tensor, scene: Scene) -> Tensor:
    """`other` in the value's dtype and on its device; in a turn of a loop, its row for that turn.

    Raises TapError where it does not broadcast to the value's shape.
    """
    if scene.turn is not None and other.dim() > 1 and other.size(-2) == scene.turn[1]:
        other = other[..., scene.turn[0], None, :]
    own, shape = other.shape, value.shape
    if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
        raise TapError(f"edit at {scene.name}: {tuple(own)} does not fit {tuple(shape)}")
    return other.to(value)


class Recorder(Tap):
    """Keeps the activations named in `keep` and passes those named in `changes` through an edit.

    After a forward pass `seen` maps each kept name to its tensor, and `fired` the edits that were applied.
    """

    def __init__(self, keep: Collection[str] = (), changes: Mapping[str, Edit] | None = None, path: str = ""):
        self.keep, self.changes, self.path = frozenset(keep), dict(changes or {}), path
        self.needs = frozenset(
            name.rpartition(".")[0] + "." + need if "." in name else need
            for name, edit in self.changes.items()
            for need in edit.needs
        )
        self.first, self.whole = 0, True
        self.turn: tuple[int, int] | None = None
        self.turns: list[Recorder] = []
        self.seen: dict[str, Tensor] = {}
        self.held: dict[str, Tensor] = {}
        self.fired: dict[str, bool] = {}

    def __call__(self, name: str, value: Tensor) -> Tensor:
        full = self.path + name
        if full in self.changes:
            if full in self.fired:
                raise TapError(f"tap {full} fired twice in one forward pass (activation checkpointing?)")
            self.fired[full] = True
            folder = full.rpartition(".")[0]
            path = f"{folder}." if folder else ""
            scene = Scene(full, lambda near: self.held[path + near], self.first, self.whole, self.turn)
            edited = self.changes[full](value, scene)
            if edited.shape != value.shape:
                raise TapError(f"edit at {full}: {tuple(edited.shape)} does not fit {tuple(value.shape)}")
            value = edited
        if full in self.needs:
            self.held[full] = value
        if full in self.keep:
            if full in self.seen:
                raise TapError(f"tap {full} fired twice in one forward pass (activation checkpointing?)")
            self.seen[full] = value
        return value

    def at(self, child: str) -> "Tap":
        prefix = f"{self.path}{child}."
        if not self._concerns(prefix):
            return off
        same = Recorder.__new__(Recorder)
        same.keep, same.changes, same.needs, same.path = self.keep, self.changes, self.needs, prefix
        same.first, same.whole, same.turn, same.turns = self.first, self.whole, self.turn, []
        same.seen, same.held, same.fired = self.seen, self.held, self.fired
        return same

    def inside(self, block: str) -> "Tap":
        prefix = f"{self.path}{block}."
        if not self._concerns(prefix):
            return off
        cut = len(prefix)
        keep = [name[cut:] for name in self.keep if name.startswith(prefix)]
        own = Recorder(keep, {n[cut:]: e for n, e in self.changes.items() if n.startswith(prefix)})
        own.first, own.whole, own.turn = self.first, self.whole, self.turn
        return own

    def gather(self, block: str, tap: Tap) -> None:
        if isinstance(tap, Recorder):
            prefix = f"{self.path}{block}."
            self.seen.update({prefix + name: value for name, value in tap.seen.items()})
            self.fired.update({prefix + name: True for name in tap.fired})

    def starting(self, first: int) -> "Tap":
        self.first, self.whole = first, False
        return self

    def during(self, place: int, count: int) -> "Tap":
        own = Recorder(self.keep, self.changes, self.path)
        own.first, own.whole, own.turn = self.first + place, False, (place, count)
        self.turns.append(own)
        return own

    def join(self) -> None:
        for name in {name: None for own in self.turns for name in own.seen}:
            self.seen[name] = torch.cat([own.seen[name] for own in self.turns], dim=-2)
        for own in self.turns:
            self.fired.update(own.fired)
        self.turns.clear()

    def wants(self, *names: str) -> bool:
        return any(self.path + n in self.keep or self.path + n in self.changes for n in names)

    def edits(self, *names: str) -> bool:
        return any(self.path + n in self.changes for n in names)

    def _concerns(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.keep) or any(
            n.startswith(prefix) for n in self.changes
        )


# Plain attributes of a thread-local object and not a context variable: torch.compile guards on the former (a
# graph compiled without edits is not run with them), and cannot read the latter.
_here = threading.local()


def standing(model: object, tap: Tap = off) -> Tap:
    """`tap`, or where it is `off` a fresh recorder of the edits in force for this model in this thread."""
    table = getattr(_here, "table", None)
    if tap is not off or table is None:
        return tap
    changes = table.get(id(model))
    return off if changes is None else Recorder((), changes)


def edits_of(model: object) -> dict[str, Edit]:
    """The edits in force for this model in this thread."""
    return dict((getattr(_here, "table", None) or {}).get(id(model), {}))


@contextmanager
def in_force(model: object, changes: Mapping[str, Edit]) -> Iterator[None]:
    """Inside, calls of `model` in this thread run with `changes`; those of an outer `in_force` come first."""
    entry = (model, dict(changes))
    _here.entries = [*getattr(_here, "entries", []), entry]
    try:
        _settle()
        yield
    finally:
        _here.entries = [other for other in _here.entries if other is not entry]
        _settle()


def _settle() -> None:
    table: dict[int, dict[str, Edit]] = {}
    for model, changes in _here.entries:
        joined = table.setdefault(id(model), {})
        for name, edit in changes.items():
            joined[name] = Chain((joined[name], edit)) if name in joined else edit
    if table:
        _here.table = table
    elif hasattr(_here, "table"):
        del _here.table
