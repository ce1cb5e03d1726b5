"""Between our parameter names and those of a published layout: rows of data, read in both directions.

A row says which of our parameters are which tensor of theirs, and how the one is laid out in the other. `*`
stands for the depth of a block. Reading and writing walk the same rows, so they cannot disagree.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cutaway.errors import FileFormatError, nearest

MOST_NAMED = 4
DEPTH = re.compile(r"\.(\d+)\.")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """How some of our tensors lie in one of theirs: its shape, how it is cut, how it is joined."""

    shape: Callable[[Sequence[Shape]], Shape]
    cut: Callable[[Tensor, Sequence[Shape]], Sequence[Tensor]]
    join: Callable[[Sequence[Tensor]], Tensor]


def _stacked(shapes: Sequence[Shape]) -> Shape:
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _lone(axes: int) -> Layout:
    return Layout(
        lambda shapes: (1,) * axes + shapes[0],
        lambda tensor, shapes: [tensor.reshape(shapes[0])],
        lambda tensors: tensors[0].reshape((1,) * axes + tuple(tensors[0].shape)),
    )


SAME = Layout(lambda shapes: shapes[0], lambda tensor, _: [tensor], lambda tensors: tensors[0])
ROW, CELL = _lone(1), _lone(2)  # one or two axes of size 1 in front
JOINED = Layout(  # side by side in the first axis
    _stacked,
    lambda tensor, shapes: tensor.split([s[0] for s in shapes]),
    lambda tensors: torch.cat(list(tensors)),
)
TURNED = Layout(  # GPT-2's Conv1D: input first; several of ours side by side
    lambda shapes: _stacked(shapes)[::-1],
    lambda tensor, shapes: [t.contiguous() for t in tensor.T.split([s[0] for s in shapes])],
    lambda tensors: torch.cat(list(tensors)).T.contiguous(),
)


@dataclass(frozen=True)
class Row:
    """Our parameters and the tensor of theirs that holds them."""

    ours: tuple[str, ...]
    theirs: str
    layout: Layout = SAME


@dataclass(frozen=True)
class KeyMap:
    """What a family's files hold.

    `prefix` may stand in front of every name of a file, or be left out. `renamed` are older endings of names.
    `copies` are second names of a tensor: such a copy may be there and must then be the same. `ignored` are
    buffers that follow from the config, `left_out` weights that this model has no use for, which is told.
    `fixed` are tensors of which we know every number. Of `copies`, those in `spelled` are written as well,
    because a reader of today does not make them.
    """

    rows: tuple[Row, ...]
    prefix: str = ""
    renamed: tuple[tuple[str, str], ...] = ()
    copies: tuple[tuple[str, str], ...] = ()
    ignored: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    fixed: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = ()
    spelled: tuple[tuple[str, str], ...] = ()


def rows(table: Mapping[str, str], endings: Iterable[str] = ("weight", "bias")) -> tuple[Row, ...]:
    """Rows of modules with the same layout on both sides: theirs to ours, a row for each ending."""
    return tuple(
        Row((f"{ours}.{ending}",), f"{theirs}.{ending}")
        for theirs, ours in table.items()
        for ending in endings
    )


def expand(keys: KeyMap, names: Iterable[str]) -> list[Row]:
    """The rows that parameters of these names need, `*` filled in.

    Raises KeyError, with the name, for a parameter that no row speaks of.
    """
    names = dict.fromkeys(names)
    depths = sorted({int(found[1]) for name in names if (found := DEPTH.search(name))})
    needed: list[Row] = []
    for row in keys.rows:
        for depth in depths if "*" in row.ours[0] else [0]:
            ours = tuple(name.replace("*", str(depth)) for name in row.ours)
            if ours[0] in names:
                needed.append(Row(ours, row.theirs.replace("*", str(depth)), row.layout))
    said = {name for row in needed for name in row.ours}
    for name in names:
        if name not in said:
            raise KeyError(name)
    return needed


def write_keys(keys: KeyMap, own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under their names, in their layout."""
    found = {row.theirs: row.layout.join([own[name] for name in row.ours]) for row in expand(keys, own)}
    return found | {copy: found[original] for copy, original in keys.spelled}


def read_keys(
    keys: KeyMap, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: str | Path
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Their tensors under our names, for a model with parameters `own`; and the names that were left out.

    Nothing is copied but what lies turned in the file. Raises FileFormatError that lists all that is missing,
    too much, of another shape, no floating-point number, or not what it is a copy of.
    """
    needed = expand(keys, own)
    here, said, problems = plain_names(keys, tensors)
    wanted = {bare(keys, row.theirs) for row in needed}
    missing = [row.theirs for row in needed if bare(keys, row.theirs) not in here]
    left, unknown = [], []
    for name in sorted(here.keys() - wanted):
        if not not_needed(keys, name, here, said, problems):
            (left if matches(keys, keys.left_out, name) else unknown).append(said[name])
    problems += listed("missing", missing, unknown or list(tensors))
    problems += listed("not of this model", unknown, missing or [row.theirs for row in needed])
    found: dict[str, Tensor] = {}
    for row in needed:
        tensor = here.get(bare(keys, row.theirs))
        if tensor is None:
            continue
        shapes = [tuple(own[name].shape) for name in row.ours]
        if tuple(tensor.shape) != row.layout.shape(shapes):
            told = f"has shape {tuple(tensor.shape)}, the config says {row.layout.shape(shapes)}"
            problems.append(f"{row.theirs} {told}")
        elif not tensor.is_floating_point() or tensor.element_size() < 2:
            problems.append(f"{row.theirs} is {tensor.dtype}, not a floating-point number of 16 bits or more")
        else:
            found |= zip(row.ours, row.layout.cut(tensor, shapes), strict=True)
    if problems:
        more = f"; and {len(problems) - MOST_NAMED} more" if len(problems) > MOST_NAMED else ""
        raise FileFormatError(path, "; ".join(problems[:MOST_NAMED]) + more)
    return found, tuple(sorted(left))


def bare(keys: KeyMap, name: str) -> str:
    """A name without the family's prefix."""
    return name.removeprefix(keys.prefix)


def matches(keys: KeyMap, patterns: Iterable[str], name: str) -> bool:
    """Whether one of the patterns, in which `*` is a depth, is this bare name."""
    flat = DEPTH.sub(".*.", name)
    return any(flat == DEPTH.sub(".*.", bare(keys, pattern)) for pattern in patterns)


def plain_names(
    keys: KeyMap, tensors: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """The tensors of a file under today's names without the prefix, what the file calls each, and which of
    them come twice.
    """
    found: dict[str, Tensor] = {}
    said: dict[str, str] = {}
    problems = []
    for name, tensor in tensors.items():
        new = name
        for old, today in keys.renamed:
            new = new.removesuffix(old) + today if new.endswith(old) else new
        new = bare(keys, new)
        if new in said:
            problems.append(f"{name} and {said[new]} are one tensor of the model")
        else:
            found[new], said[new] = tensor, name
    return found, said, problems


def not_needed(
    keys: KeyMap, name: str, here: Mapping[str, Tensor], said: Mapping[str, str], problems: list[str]
) -> bool:
    """Whether a tensor tells nothing new: a buffer, or a copy or a fixed table, which must be as expected."""
    if matches(keys, keys.ignored, name):
        return True
    for copy, original in keys.copies:
        if bare(keys, copy) == name and bare(keys, original) in here:
            if not same(here[name], here[bare(keys, original)]):
                problems.append(f"{said[name]} must be the same as {original}, to which the config ties it")
            return True
    for fixed, compute in keys.fixed:
        if bare(keys, fixed) == name:
            if not is_table(here[name], compute):
                problems.append(f"{said[name]} is not the table that is computed for it")
            return True
    return False


def is_table(tensor: Tensor, compute: Callable[[Tensor], Tensor]) -> bool:
    """Whether a tensor holds, to the rounding of its type, the numbers that are computed for its shape; of
    one without numbers, on the meta device, only type and shape count.
    """
    if tensor.dim() != 2 or not tensor.is_floating_point() or tensor.element_size() < 2 or not tensor.numel():
        return False
    if tensor.is_meta:
        return True
    return bool((tensor.double() - compute(tensor)).abs().max() <= 4 * torch.finfo(tensor.dtype).eps)


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers of the same type; on the meta device there are none."""
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and (one.is_meta or torch.equal(one, other))


def listed(what: str, names: Sequence[str], others: Sequence[str]) -> list[str]:
    """One problem for all names of a kind, the first few with the name that is nearest."""
    if not names:
        return []
    shown = [f"{name} ({nearest(name, others, most=1)})" for name in names[:MOST_NAMED]]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return [f"{len(names)} {'tensor' if len(names) == 1 else 'tensors'} {what}: {', '.join(shown)}{more}"]
