"""The parts of a model, one algorithm a file. Importing this package registers them all."""

from cutaway.nn import attention, embed, feedforward, heads, norm, position
from cutaway.nn.part import part, register

__all__ = ["attention", "embed", "feedforward", "heads", "norm", "part", "position", "register"]
