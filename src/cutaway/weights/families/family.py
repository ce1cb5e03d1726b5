"""What a published family is to us: which config.json it has, what that says in records, and its key map.

`read` turns a config into a spec and `write` a spec into a config; `keys` is the key map of a spec. What a
family cannot say is found by reading back what was written (`cutaway.weights.families.publish`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from cutaway import spec
from cutaway.errors import FileFormatError
from cutaway.store import told
from cutaway.weights.config import ACTIVATIONS, Table
from cutaway.weights.keys import KeyMap

Tensors = Mapping[str, Tensor]
NO_WORDS: tuple[str, ...] = ()


@dataclass(frozen=True)
class Config:
    """What a config.json says: the model, how many positions it was made for, the names of its classes."""

    plan: spec.Model
    length: int | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Family:
    """One `model_type`: its reader, its writer, its names, and the keys that say nothing about inference."""

    model_type: str
    read: Callable[[Table, Tensors], Config]
    write: Callable[[Any, int], dict[str, Any]]
    keys: Callable[[Any], KeyMap]
    harmless: tuple[str, ...] = NO_WORDS
    root: type = spec.Single


class UnsaidError(Exception):
    """A spec that a family's config has no words for; the path of what does not fit, and why."""


def architecture(table: Table, known: Mapping[str, Any], otherwise: str) -> Any:
    """What the first of `architectures` stands for; `otherwise` where a config names none."""
    said = table.take("architectures", None)
    if said is not None and not isinstance(said, list):
        raise table.refuse("architectures", f"{told(said)} must be a list of names")
    name = said[0] if said else otherwise
    if not isinstance(name, str) or name not in known:
        raise table.refuse("architectures", f"{told(name)} is not built; Cutaway has {', '.join(known)}")
    return known[name]


def activation_word(act: str, words: tuple[str, ...] = ()) -> str:
    """A family's word for an activation; of several, the one among `words`."""
    fitting = [word for word, ours in ACTIVATIONS.items() if ours == act]
    return next((word for word in fitting if word in words), fitting[0])


def block_of(stack: spec.Stack, path: str = "stack") -> Any:
    """The first block of a stack, whose mixer is attention; UnsaidError where it is something else."""
    block = stack.blocks[0]
    if not isinstance(block.mixer, spec.Attention):
        raise UnsaidError(f"{path}.blocks[0].mixer: {type(block.mixer).__name__} is no attention")
    return block


def expect(record: object, kind: type, path: str) -> Any:
    """The record, if it is of this kind; UnsaidError with its path if it is another."""
    if not isinstance(record, kind):
        raise UnsaidError(
            f"{path}: {type(record).__name__}, which the family has not; it has {kind.__name__}"
        )
    return record


def check_divides(table: Table, key: str, heads: int, width: int) -> None:
    """Raises FileFormatError where heads do not share the width evenly and no head width is given."""
    if width % heads:
        raise FileFormatError(table.path, f"{key}: {heads} heads do not divide a width of {width}")
