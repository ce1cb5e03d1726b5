"""Which published family says what a spec says, and what stands in the way where none does.

The reader judges the writer: a config is only right if reading it gives the spec back. What matters in
training alone, dropout and initial values, no config has to say.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from torch import Tensor

from cutaway import spec
from cutaway.errors import ConfigError, CutawayError
from cutaway.models import build
from cutaway.weights.config import Table
from cutaway.weights.families import FAMILIES, Family
from cutaway.weights.families.family import UnsaidError
from cutaway.weights.keys import write_keys

MOST_NAMED = 4
BLOCK = re.compile(r"\[\d+\]")


@dataclass(frozen=True)
class Published:
    """The family a spec belongs to and its config.json."""

    family: Family
    config: dict[str, Any]


def publish(plan: spec.Model, length: int, labels: tuple[str, ...] = ()) -> Published:
    """The first family that says all of a spec; `length` is how many positions it was trained with.

    Raises ConfigError, naming what does not fit into the family that is nearest, where there is none.
    """
    own = dict(build(plan, device="meta").named_parameters())
    tried: list[tuple[int, str, list[str]]] = []
    for family in FAMILIES.values():
        if not isinstance(plan, family.root):
            continue
        config, misfits = attempt(family, plan, length, labels, own)
        if not misfits:
            return Published(family, config)
        usual = dict(kinds(family.read(Table({}), {}).plan, ""))
        strange = sum(usual.get(path) != kind for path, kind in kinds(plan, ""))
        tried.append((strange, family.model_type, misfits))
    if not tried:
        roots = " and ".join(sorted({family.root.__name__ for family in FAMILIES.values()}))
        raise ConfigError(
            f"{type(plan).__name__}: no published family is of this kind; those here are {roots}"
        )
    _, name, misfits = min(tried, key=lambda one: (one[0], len(one[2])))
    more = f" and {len(misfits) - MOST_NAMED} more" if len(misfits) > MOST_NAMED else ""
    raise ConfigError(
        f"no published family computes this model; the nearest, {name}, has no place for "
        f"{'; '.join(misfits[:MOST_NAMED])}{more}"
    )


def attempt(
    family: Family, plan: Any, length: int, labels: tuple[str, ...], own: Mapping[str, Tensor]
) -> tuple[dict[str, Any], list[str]]:
    """A family's config of a spec, and what of the spec reading it does not give back."""
    try:
        config = family.write(plan, length)
        if isinstance(plan.head, spec.Classify):
            named = labels or tuple(f"LABEL_{number}" for number in range(plan.head.classes))
            config["id2label"] = {str(number): label for number, label in enumerate(named)}
            config["label2id"] = {label: number for number, label in enumerate(named)}
        try:
            tensors, strange = write_keys(family.keys(plan), own), []
        except KeyError as problem:
            tensors, strange = {}, [f"the parameter {problem.args[0]}"]
        back = family.read(Table(config), tensors).plan
    except (UnsaidError, CutawayError) as problem:
        return {}, [str(problem)]
    found = {
        BLOCK.sub("[]", told): told for told in reversed([*differences(settled(plan), settled(back), "")])
    }
    return config, list(reversed(found.values())) or strange  # of blocks that are alike the first is told


def settled(record: Any) -> Any:
    """A record with every default that is a rule written out, and without what matters in training alone."""
    match record:
        case spec.Single() | spec.Paired():
            return replace(_inside(at_width(record)), init=spec.Init())
    return _inside(record)


def _inside(record: Any) -> Any:
    changed: dict[str, Any] = {}
    for field in fields(record):
        value = getattr(record, field.name)
        if is_dataclass(value):
            changed[field.name] = settled(value)
        elif isinstance(value, tuple):
            changed[field.name] = tuple(settled(item) if is_dataclass(item) else item for item in value)
    match record:
        case spec.Block():
            changed["dropout"] = spec.Dropout()
        case spec.Tokens() | spec.Patches():
            changed["dropout"] = 0.0
        case spec.Attention(bias=bias):
            changed["bias"] = "".join(letter for letter in "qkvo" if letter in bias)
        case spec.Stack(layers=layers, distinct=distinct):
            blocks = changed["blocks"]
            changed["blocks"] = tuple(blocks[depth % len(blocks)] for depth in range(layers))
            changed["distinct"] = distinct if distinct != layers else None
    return replace(record, **changed)


def at_width(model: Any) -> Any:
    """The model with the numbers of heads, their width and scale in every attention."""

    def of(attend: Any) -> Any:
        if not isinstance(attend, spec.Attention):
            return attend
        head_width = attend.head_width or model.width // attend.heads
        scale = head_width**-0.5 if attend.scale is None else attend.scale
        return replace(attend, kv_heads=attend.kv_heads or attend.heads, head_width=head_width, scale=scale)

    def whole(stack: spec.Stack) -> spec.Stack:
        blocks = (replace(block, mixer=of(block.mixer), cross=of(block.cross)) for block in stack.blocks)
        return replace(stack, blocks=tuple(blocks))

    names = ("stack",) if isinstance(model, spec.Single) else ("encoder", "decoder")
    return replace(model, **{name: whole(getattr(model, name)) for name in names})


def differences(one: Any, other: Any, path: str) -> Iterator[str]:
    """Where two records differ: the path and what the first has there."""
    if one == other:
        return
    if type(one) is not type(other):
        yield f"{path}: {shown(one)}"
    elif is_dataclass(one):
        for field in fields(one):
            here = f"{path}.{field.name}" if path else field.name
            yield from differences(getattr(one, field.name), getattr(other, field.name), here)
    elif isinstance(one, tuple) and len(one) == len(other):
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            yield from differences(left, right, f"{path}[{number}]")
    else:
        yield f"{path}: {shown(one)}"


def kinds(record: Any, path: str) -> Iterator[tuple[str, str]]:
    """The kind of each record inside one, of blocks the first only."""
    yield path, type(record).__name__
    for field in fields(record) if is_dataclass(record) else ():
        value = getattr(record, field.name)
        value = value[0] if isinstance(value, tuple) and value else value
        if value is None or is_dataclass(value):
            yield from kinds(value, f"{path}.{field.name}")


def shown(value: Any) -> str:
    """A value as an error names it: a record by its kind."""
    return type(value).__name__ if is_dataclass(value) else repr(value)
