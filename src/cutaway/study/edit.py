"""Changing: while `edit` is entered, every call of the model runs with some values replaced.

H head   L position   M memory position   D width
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from cutaway import spec
from cutaway.errors import TapError
from cutaway.models import sites
from cutaway.spec.names import matcher
from cutaway.study.names import find
from cutaway.study.subject import Subject, many_graphs, subject
from cutaway.tap import Add, Copy, Edit, Replace, Scale, Scene, fitting, in_force


@dataclass(frozen=True)
class Change:
    """What to do at a tap: `edit`, only in these heads and at these positions (None is all)."""

    edit: Edit
    heads: tuple[int, ...] | None = None
    positions: tuple[int, ...] | None = None


class Skip:
    """What `skip` puts in place of a layer or sub-layer: nothing."""


def ablate(
    heads: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    with_: Literal["zero", "mean"] | Tensor = "zero",
) -> Change:
    """Put zero in place of a value, or its mean over this call's texts and positions, or a tensor (say the
    mean over many texts), which broadcasts to the value.
    """
    if isinstance(with_, Tensor):
        return change(Replace(with_), heads, positions)
    if with_ not in ("zero", "mean"):
        raise TapError(f"ablate: with_ is 'zero', 'mean' or a tensor, not {with_!r}")
    return change(Mean() if with_ == "mean" else Replace(torch.zeros(())), heads, positions)


def replace(
    other: Tensor, positions: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> Change:
    """Put `other` in place of a value; with positions it has a row for each of them, or one for all."""
    return change(Replace(other), heads, positions)


def scale(
    factor: float | Tensor, heads: Sequence[int] | None = None, positions: Sequence[int] | None = None
) -> Change:
    """Multiply a value."""
    return change(Scale(torch.as_tensor(factor)), heads, positions)


def add(
    term: float | Tensor, positions: Sequence[int] | None = None, heads: Sequence[int] | None = None
) -> Change:
    """Add to a value: a steering vector (D) at `blocks.N.out`."""
    return change(Add(torch.as_tensor(term)), heads, positions)


def skip(path: str) -> dict[str, Skip]:
    """Leave out a layer (`blocks.3`) or a sub-layer with its norms (`blocks.3.attn`, `.cross`, `.ffn`):
    what comes out of it is what went in. Give it to `edit` beside other changes.
    """
    return {path: Skip()}


def change(edit: Edit, heads: Sequence[int] | None, positions: Sequence[int] | None) -> Change:
    """A change in some heads and at some positions."""
    return Change(
        edit, None if heads is None else tuple(heads), None if positions is None else tuple(positions)
    )


@contextmanager
def edit(thing: Any, *changes: Mapping[str, Change | Edit | Skip]) -> Iterator[None]:
    """Inside, calls of the model (forward, step, generate; compiled too) in this thread run with the changes.

    `thing` is a model, a compiled model or a session; keys are names of taps, with wildcards. A call that is
    given a tap of its own runs without them, except through `trace`. Raises TapError for a name that no tap
    has, heads or positions out of range, a tensor of the wrong shape; on leaving, for a change never applied.
    """
    studied = subject(thing)
    bound: dict[str, Watched] = {}
    for mapping in changes:
        for pattern, wanted in mapping.items():
            for name, made in bind(pattern, wanted, studied).items():
                if name in bound:
                    raise TapError(f"two changes at {name}: give one, or nest two `edit`")
                bound[name] = made
    with in_force(studied.model, bound), many_graphs():
        yield
    for made in bound.values():
        made.check()


def bind(pattern: str, wanted: Change | Edit | Skip, studied: Subject) -> "dict[str, Watched]":
    """Tap name -> edit, checked against the model's taps."""
    if isinstance(wanted, Skip):
        return {name: Watched(name, made) for name, made in detours(pattern, studied.plan).items()}
    made = wanted if isinstance(wanted, Change) else Change(wanted)
    # axes that do not change with the text; an edit that does not fit these is refused before anything runs
    one, other = sites(studied.plan, 1, 3), sites(studied.plan, 2, 2)
    shapes = {
        name: tuple(a if a == b else None for a, b in zip(one[name], other[name], strict=True))
        for name in find(pattern, studied.plan)
    }
    return {name: restrict(made, name, shape) for name, shape in shapes.items()}


def detours(pattern: str, plan: spec.Model) -> dict[str, Edit]:
    """The copies that leave out what a path names."""
    known = sites(plan)
    made: dict[str, Edit] = {}
    for place in (name for name in known if name.endswith(".in")):
        block = place.removesuffix(".in")
        before_ffn = "crossed" if f"{block}.crossed" in known else "mid"
        steps = {block: ("out", "in"), f"{block}.cross": ("crossed", "mid")}
        steps |= {f"{block}.attn": ("mid", "in"), f"{block}.mixer": ("mid", "in")}
        steps[f"{block}.ffn"] = ("out", before_ffn)
        for path, (end, start) in steps.items():
            exists = path == block or f"{path}.out" in known
            if exists and matcher(pattern).fullmatch(path):
                made[f"{block}.{end}"] = Copy(start)
    if not made:
        raise TapError(f"skip: {pattern!r} is no layer (blocks.N) and no sub-layer (.attn, .cross, .ffn)")
    return made


def restrict(wanted: Change, name: str, shape: tuple[int | None, ...]) -> "Watched":
    """The edit with its heads and positions, where the tap has such axes (None is an axis of any size)."""
    made, heads, positions = wanted.edit, wanted.heads, wanted.positions
    given = next((tensor for tensor in vars(made).values() if isinstance(tensor, Tensor)), torch.zeros(()))
    pairs = zip(given.shape[::-1], shape[::-1], strict=False)
    if given.dim() > len(shape) or any(a != 1 and b is not None and a != b for a, b in pairs):
        raise TapError(f"edit at {name}: {tuple(given.shape)} does not fit {shown(shape)}")
    by_rows = isinstance(made, Replace) and positions is not None and made.other.dim() > 1
    if by_rows and made.other.size(-2) == len(positions) > 1:
        made = ReplaceRows(made.other, torch.tensor(positions))
    elif positions is not None:
        made = At(made, torch.tensor(positions))
    if heads is not None:
        if len(shape) != 4 and not (len(shape) == 3 and name.rpartition(".")[2] == "bias"):
            raise TapError(f"{name} has no heads: its shape is {shown(shape)}")
        count = shape[-3] or 0
        if not heads or not all(0 <= head < count for head in heads):
            raise TapError(f"{name} has heads 0 to {count - 1}, not {list(heads)}")
        where = torch.zeros(count, 1, 1, dtype=torch.bool)
        where[list(heads)] = True
        made = Within(made, where)
    if positions is not None:
        if len(shape) < 3 and name.rpartition(".")[2] != "position":
            raise TapError(f"{name} has no positions: its shape is {shown(shape)}")
        if not positions or min(positions) < 0:
            raise TapError(f"{name}: positions count from 0, not {list(positions)}")
    return Watched(name, made, None if positions is None else max(positions))


def shown(shape: tuple[int | None, ...]) -> str:
    """(any, 12, any, 64)"""
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


@dataclass(eq=False)
class Watched(Edit):
    """An edit that remembers how far it has come, so that one never applied does not pass in silence."""

    name: str
    edit: Edit
    last: int | None = None
    reached: int | None = None

    @property
    def needs(self) -> tuple[str, ...]:  # type: ignore[override]
        return self.edit.needs

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        self.reached = scene.first + value.size(-2)
        # In a compiled graph a look at `last` would compile anew for every position: `edit` looks on leaving;
        # and at a full name for every layer.
        if not torch.compiler.is_compiling():
            scene = scene._replace(name=self.name)
            if scene.whole:
                self.check()
        return self.edit(value, scene)

    def check(self) -> None:
        """Raises TapError where the edit was never applied, or its last position never came by."""
        if self.reached is None:
            raise TapError(f"the edit at {self.name} was never applied: no call of the model reached it")
        if self.last is not None and self.last >= self.reached:
            raise TapError(
                f"the edit at {self.name}, position {self.last}: there are {self.reached} positions"
            )


@dataclass(eq=False)
class Within(Edit):
    """The edit where `where` (H, 1, 1) is true."""

    edit: Edit
    where: Tensor

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        return torch.where(self.where.to(value.device), self.edit(value, scene), value)


@dataclass(eq=False)
class At(Edit):
    """The edit at some positions."""

    edit: Edit
    positions: Tensor

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        hit = meets(self.positions, value, scene).any(-1, keepdim=True)
        return torch.where(hit, self.edit(value, scene), value)


@dataclass(eq=False)
class ReplaceRows(Edit):
    """Each of `positions` gets its own row of `other`."""

    other: Tensor
    positions: Tensor

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        hit = meets(self.positions, value, scene)
        own = self.other[..., hit.long().argmax(-1), :]
        return torch.where(hit.any(-1, keepdim=True), fitting(own, value, scene), value)


@dataclass(eq=False)
class Mean(Edit):
    """The mean over texts and positions."""

    def __call__(self, value: Tensor, scene: Scene) -> Tensor:
        if not scene.whole:
            raise TapError(f"edit at {scene.name}: a step of decoding has no mean; give ablate a tensor")
        return value.mean(dim=(0, -2), keepdim=True).expand_as(value)


def meets(positions: Tensor, value: Tensor, scene: Scene) -> Tensor:
    """Which of the value's positions is which of `positions`: (L, how many)."""
    places = torch.arange(value.size(-2), device=value.device) + scene.first
    return places[:, None] == positions.to(value.device)
