"""What an adapter_config.json of the peft library asks for: which modules, of what rank, scaled by what.

Names of modules are as peft has them: whole, or the end of several.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutaway.store import read_object
from cutaway.weights.config import Table

# What would change what an adapter computes, or the weights below it: only these values are built.
BUILT: dict[str, tuple[object, ...]] = {
    "bias": ("none", None),
    "init_lora_weights": (True, False, "gaussian", "orthogonal", None),
}
_UNREAD = """
    auto_mapping base_model_name_or_path revision task_type inference_mode exclude_modules fan_in_fan_out
    layers_pattern peft_version megatron_core qalora_group_size ensure_weight_tying eva_config loftq_config
    runtime_config
"""
UNREAD = frozenset(_UNREAD.split())  # what says nothing about the function once the tensors are there
PLAIN = re.compile(r"\^?[\w.]+")
LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Asked:
    """The product of a module's A and B is multiplied by alpha / rank, or, where `root` (rank-stabilised,
    Kalajdzievski 2023), by alpha / sqrt(rank); `alphas` and `ranks` are those of single modules.

    `modules` and `layers` are None where the file does not list them; `whole` are the modules that are saved
    as they are.
    """

    table: Table
    dropout: float
    alpha: float
    rank: int
    root: bool
    alphas: Mapping[str, float]
    ranks: Mapping[str, int]
    modules: tuple[str, ...] | None
    layers: tuple[int, ...] | None
    whole: tuple[str, ...]

    def scale(self, module: str, rank: int) -> float:
        """What the product of one module is multiplied with."""
        return meant(self.alphas, module, self.alpha) / (rank**0.5 if self.root else rank)

    def check(self, module: str, rank: int) -> None:
        """FileFormatError where the weights have an adapter, or one of a rank, that was not asked for."""
        wanted = meant(self.ranks, module, self.rank)
        if rank != wanted:
            raise self.table.refuse("r", f"{wanted}, but {module} has an adapter of rank {rank}")
        if self.modules is not None and not any(same(name, module) for name in self.modules):
            raise self.table.refuse("target_modules", f"{module} is not among them, but has an adapter")
        layer = LAYER.search(f".{module}.")
        if self.layers is not None and (layer is None or int(layer[1]) not in self.layers):
            raise self.table.refuse(
                "layers_to_transform", f"{module} is of none of these, but has an adapter"
            )

    def check_whole(self, modules: Iterable[str]) -> None:
        """FileFormatError where a module that was to be saved as it is does not stand in the weights."""
        known = tuple(modules)
        for name in self.whole:
            if not any(same(name, module) for module in known):
                raise self.table.refuse(
                    "modules_to_save", f"the weights hold nothing of {name!r}; save the adapter with it"
                )


def read_asked(path: Path) -> Asked:
    """What a file asks for. Raises FileFormatError, naming file and key, for what is damaged, of another kind
    than LoRA, or does what is not built.
    """
    table = Table(read_object(path), path)
    dropout = table.number("lora_dropout", 0.0)
    if dropout >= 1:
        raise table.refuse("lora_dropout", f"{dropout} must be less than 1")
    layers = table.take("layers_to_transform", None)
    asked = Asked(
        table=table,
        dropout=dropout,
        alpha=table.number("lora_alpha", 8),
        rank=table.count("r", 8),
        root=table.flag("use_rslora", False),
        alphas=pattern(table, "alpha_pattern", (int, float)),
        ranks=pattern(table, "rank_pattern", (int,)),
        modules=listed(table, "target_modules", str, spelled=True),
        layers=(layers,) if type(layers) is int else listed(table, "layers_to_transform", int),
        whole=listed(table, "modules_to_save", str) or (),
    )
    check_built(table)
    return asked


def listed(table: Table, key: str, kind: type, spelled: bool = False) -> tuple[Any, ...] | None:
    """A list of one kind, None where there is none, or, if it may be `spelled` so, an expression for it."""
    found = table.take(key, None)
    if found is None or (spelled and isinstance(found, str)):
        return None
    if not isinstance(found, list) or not all(type(value) is kind for value in found):
        raise table.refuse(key, f"must be a list, each of it a {kind.__name__}")
    return tuple(found)


def pattern(table: Table, key: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    """A number for each module named; FileFormatError for names that peft would run as expressions."""
    found = table.take(key, None) or {}
    if not isinstance(found, dict) or not all(type(value) in kinds for value in found.values()):
        raise table.refuse(key, "must be a table of numbers")
    if strange := [name for name in found if not PLAIN.fullmatch(name)]:
        raise table.refuse(key, f"{strange[0][:80]!r} is no plain name; name the modules")
    return {name.removeprefix("^"): value for name, value in found.items()}


def meant(table: Mapping[str, float], module: str, default: float) -> float:
    """The number that a table has for a module."""
    return next((value for name, value in table.items() if same(name, module)), default)


def same(name: str, module: str) -> bool:
    """Whether a name means a module: its own, the end of it, or with more in front."""
    return module == name or module.endswith(f".{name}") or name.endswith(f".{module}")


def check_built(table: Table) -> None:
    """FileFormatError where an adapter is of another kind, or does what is not built."""
    if table.take("peft_type", None) != "LORA":
        raise table.refuse("peft_type", "is not LORA; Cutaway reads low-rank adapters")
    for key, values in BUILT.items():
        if table.take(key, values[0]) not in values:
            told = ", ".join(json.dumps(value) for value in values)
            raise table.refuse(key, f"{table.values[key]!r} is not built; Cutaway has {told}")
    for key, value in table.values.items():
        if key not in table.taken | UNREAD and value not in (None, False, {}, []):
            raise table.refuse(key, f"{value!r} is not built; save the adapter without it")
