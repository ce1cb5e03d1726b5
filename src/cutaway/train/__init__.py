"""Training: the loop and what is around it. The package is also the call: `cutaway.train("stdlib")`."""

import sys
from types import ModuleType

from cutaway.train.loop import Step, Training
from cutaway.train.request import train_recipe
from cutaway.train.runner import Result, Runner

__all__ = ["Result", "Runner", "Step", "Training", "train_recipe"]


class _Package(ModuleType):
    """An import of any module of the package binds the package to the name of the call, so it is the call."""

    __call__ = staticmethod(train_recipe)


sys.modules[__name__].__class__ = _Package
