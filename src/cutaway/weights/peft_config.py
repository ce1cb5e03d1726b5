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
    runtime_config layers_to_transform
"""
UNREAD = frozenset(_UNREAD.split())  # what says nothing about the function once the tensors are there
PLAIN = re.compile(r"\^?[\w.]+")


@dataclass(frozen=True)
class Asked:
    """The product of a module's A and B is multiplied by alpha / rank, or, where `root` (rank-stabilised,
    Kalajdzievski 2023), by alpha / sqrt(rank); `alphas` and `ranks` are those of single modules.

    `ranks` is None where expressions say them, `modules` where the file does not list them; `whole` are
    modules that are saved as they are, if the model has them.
    """

    table: Table
    dropout: float
    alpha: float
    rank: int
    root: bool
    alphas: Mapping[str, float]
    ranks: Mapping[str, int] | None
    modules: tuple[str, ...] | None
    whole: tuple[str, ...]

    def scale(self, module: str, rank: int) -> float:
        """What the product of one module is multiplied with."""
        return meant(self.alphas, module, self.alpha) / (rank**0.5 if self.root else rank)

    def check(self, module: str, rank: int) -> None:
        """FileFormatError where the weights have an adapter, or one of a rank, that was not asked for."""
        wanted = rank if self.ranks is None else meant(self.ranks, module, self.rank)
        if rank != wanted:
            raise self.table.refuse("r", f"{wanted}, but {module} has an adapter of rank {rank}")
        if self.modules is not None and not any(same(name, module) for name in self.modules):
            raise self.table.refuse("target_modules", f"{module} is not among them, but has an adapter")

    def check_whole(self, saved: Iterable[str], model: Iterable[str]) -> None:
        """FileFormatError where a module of the model that was to be saved whole is not among the `saved`, of
        which the weights hold something.
        """
        saved, model = tuple(saved), tuple(model)  # both are read once for each name
        for name in self.whole:
            if any(within(name, module) for module in model) and not any(
                within(name, module) for module in saved
            ):
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
    ranks, alphas = pattern(table, "rank_pattern", (int,)), pattern(table, "alpha_pattern", (int, float))
    if strange := expressions(alphas):
        raise table.refuse("alpha_pattern", f"{strange[0][:80]!r} is no plain name; name the modules")
    asked = Asked(
        table=table,
        dropout=dropout,
        alpha=table.number("lora_alpha", 8),
        rank=table.count("r", 8),
        root=table.flag("use_rslora", False),
        alphas=alphas,
        ranks=None if expressions(ranks) else ranks,  # the tensors say it too
        modules=listed(table, "target_modules", spelled=True),
        whole=listed(table, "modules_to_save") or (),
    )
    check_built(table)
    return asked


def listed(table: Table, key: str, spelled: bool = False) -> tuple[str, ...] | None:
    """A list of names, None where there is none, or, if it may be `spelled` so, an expression for them."""
    found = table.take(key, None)
    if found is None or (spelled and isinstance(found, str)):
        return None
    if not isinstance(found, list) or not all(type(value) is str for value in found):
        raise table.refuse(key, "must be a list of names")
    return tuple(found)


def pattern(table: Table, key: str, kinds: tuple[type, ...]) -> dict[str, Any]:
    """A number for each module named, or for each expression, as peft reads these names."""
    found = table.take(key, None) or {}
    if not isinstance(found, dict) or not all(type(value) in kinds for value in found.values()):
        raise table.refuse(key, "must be a table of numbers")
    return found


def expressions(names: Iterable[str]) -> list[str]:
    """Those that are no names of modules, which peft would run."""
    return [name for name in names if not PLAIN.fullmatch(name)]


def meant(table: Mapping[str, float], module: str, default: float) -> float:
    """The number that a table has for a module."""
    return next((value for name, value in table.items() if same(name, module)), default)


def same(name: str, module: str) -> bool:
    """Whether a name means a module: its own, with more in front, or, without ^, the end of it."""
    whole = name.removeprefix("^")
    return module == whole or whole.endswith(f".{module}") or (whole == name and module.endswith(f".{name}"))


def within(name: str, module: str) -> bool:
    """Whether a module is one that a name means, or inside of it."""
    return f".{name}." in f".{module}." or name.endswith(f".{module}")


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
