"""A tap is a named point where an activation can be read or replaced.

Every forward takes `tap`, calls `tap("name", value)` at points worth naming, and hands `tap.at("child")` to
its children. The default, `off`, returns its argument: eager it costs about 0.1 us, compiled it leaves no
trace. A stack gives each block a recorder whose names are relative to the block (`inside`) and collects what
it saw (`gather`): a full path would differ from block to block and make per-block compilation recompile for
each layer.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cutaway.errors import TapError

Recall = Callable[[str], Tensor]


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

    def wants(self, *names: str) -> bool:
        """Whether somebody reads or edits one of these."""
        return False

    def edits(self, *names: str) -> bool:
        """Whether somebody edits one of these."""
        return False


off = Tap()


class Edit:
    """Replaces a value at a tap. Holds tensors, so that a sweep over edits changes tensors, not code."""

    needs: tuple[str, ...] = ()

    def __call__(self, value: Tensor, recall: Recall) -> Tensor:
        raise NotImplementedError


@dataclass(eq=False)
class Scale(Edit):
    """value * factor; `factor` broadcasts against the value."""

    factor: Tensor

    def __call__(self, value: Tensor, recall: Recall) -> Tensor:
        return value * self.factor.to(value.dtype)


@dataclass(eq=False)
class Add(Edit):
    """value + term."""

    term: Tensor

    def __call__(self, value: Tensor, recall: Recall) -> Tensor:
        return value + self.term.to(value.dtype)


@dataclass(eq=False)
class Replace(Edit):
    """`other` where `where` is true, the value elsewhere; both broadcast against the value."""

    other: Tensor
    where: Tensor = field(default_factory=lambda: torch.tensor(True))

    def __call__(self, value: Tensor, recall: Recall) -> Tensor:
        return torch.where(self.where, self.other.to(value.dtype), value)


@dataclass(eq=False)
class Copy(Edit):
    """The value seen earlier at another tap of the same block: skips what lies between."""

    source: str

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return (self.source,)

    def __call__(self, value: Tensor, recall: Recall) -> Tensor:
        return recall(self.source)


@dataclass(eq=False)
class Chain(Edit):
    """Several edits of one value, in turn."""

    edits: tuple[Edit, ...]

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(name for edit in self.edits for name in edit.needs)

    def __call__(self, value: Tensor, recall: Recall) -> Tensor:
        for edit in self.edits:
            value = edit(value, recall)
        return value


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
            edited = self.changes[full](
                value, lambda other: self.held[f"{folder}.{other}" if folder else other]
            )
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
        same.seen, same.held, same.fired = self.seen, self.held, self.fired
        return same

    def inside(self, block: str) -> "Tap":
        prefix = f"{self.path}{block}."
        if not self._concerns(prefix):
            return off
        cut = len(prefix)
        keep = [name[cut:] for name in self.keep if name.startswith(prefix)]
        return Recorder(keep, {n[cut:]: e for n, e in self.changes.items() if n.startswith(prefix)})

    def gather(self, block: str, tap: Tap) -> None:
        if isinstance(tap, Recorder):
            prefix = f"{self.path}{block}."
            self.seen.update({prefix + name: value for name, value in tap.seen.items()})
            self.fired.update({prefix + name: True for name in tap.fired})

    def wants(self, *names: str) -> bool:
        return any(self.path + n in self.keep or self.path + n in self.changes for n in names)

    def edits(self, *names: str) -> bool:
        return any(self.path + n in self.changes for n in names)

    def _concerns(self, prefix: str) -> bool:
        return any(name.startswith(prefix) for name in self.keep) or any(
            n.startswith(prefix) for n in self.changes
        )
