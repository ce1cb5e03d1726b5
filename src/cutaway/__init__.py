"""Cutaway: a transformer you can read like the paper, run at full speed, and take apart layer by layer.

The names below arrive when they are first used, so that `import cutaway` costs nothing and loads no torch.
`train` is both the package and the call `cutaway.train("stdlib")`: an import of any of its modules binds the
package to this very name, so a function of that name here would come and go.
"""

import os
from importlib import import_module
from typing import Any

__version__ = "0.1.0"

__all__ = ["__version__", "data", "errors", "formal", "load", "spec", "study", "tap", "train"]

# OpenMP reads this when torch is loaded. With its default, threads that wait for work spin, and another
# process on the same cores makes every step ten times slower (LOG.md). The user's own setting comes first.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

_ATTRIBUTES = {"load": "cutaway.session"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
    if name in _ATTRIBUTES:
        return getattr(import_module(_ATTRIBUTES[name]), name)
    return import_module(f"cutaway.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
