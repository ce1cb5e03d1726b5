"""Which module computes which record: one table, open to parts from outside the package."""

from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from cutaway.errors import ConfigError, nearest

M = TypeVar("M", bound=nn.Module)
_modules: dict[type, type[nn.Module]] = {}


def register(record: type, module: type[nn.Module]) -> None:
    """Let `module(plan, width)` compute the spec record `record`.

    `record` is a frozen dataclass derived from a slot of `cutaway.spec` (`spec.Mixer`, `spec.Norm`, ...);
    from then on it can stand in that slot, in Python and, by its class name as `kind`, in TOML.
    A mixer's module that uses its `cache` says `decodes = True`; without that it trains but never decodes,
    and a pair, which is judged by what it writes, does not train.
    """
    _modules[record] = module


def computes(record: type) -> Callable[[type[M]], type[M]]:
    """Class decorator: registers the module below it for `record`."""

    def remember(module: type[M]) -> type[M]:
        register(record, module)
        return module

    return remember


def part(plan: object, width: int) -> Any:
    """The module for one record of the spec; which class it is, the record decides.

    Raises ConfigError when no module is registered for the record's class.
    """
    module = _modules.get(type(plan))
    if module is None:
        known = sorted(t.__name__ for t in _modules)
        name = type(plan).__name__
        raise ConfigError(
            f"no module computes {name}: register({name}, Module) first; {nearest(name, known)}"
        )
    return module(plan, width)
