"""Weights laid out for the processor: the same product, read at the speed of memory.

A step of decoding multiplies a few rows with every weight, and torch's usual kernels read a row-major matrix
at half the memory's speed for it (LOG.md). oneDNN reads its own layout faster. The model is left alone: while
a `Packed` is entered, `linear` with one of its weights uses the second copy; edits, taps and everything else
see no difference but rounding.

L rows   V output   D input
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cutaway.generate.compiled import compiled
from cutaway.models import AnyModel
from cutaway.nn.linear import HAS_BF16

LEAST_BYTES = 16 * 2**20  # smaller models are bound by the interpreter, which an entered mode slows down
MOST_BYTES = 2 * 2**30  # of second copies
LEAST_TOKENS = 16  # packing costs about as much as eight steps


class Packed(TorchFunctionMode):
    """While entered, products with the weights of `model` use copies packed for about `rows` rows."""

    def __init__(self, model: AnyModel, rows: int):
        super().__init__()
        self.copies: dict[int, tuple[Tensor, int, Tensor]] = {}
        with torch.no_grad():
            for weight_VD in weights(model):
                packed = torch.ops.mkldnn._reorder_linear_weight(weight_VD.detach(), rows)
                self.copies[id(weight_VD)] = (weight_VD, weight_VD._version, packed)

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs:
            x, weight_VD, bias = args if len(args) == 3 else (*args, None)
            copy = self.copies.get(id(weight_VD))
            if copy is not None and copy[1] == weight_VD._version and not torch.is_grad_enabled():
                return torch.ops.mkldnn._linear_pointwise(x, copy[2], bias, "none", [], "")
        return func(*args, **(kwargs or {}))


def pays(model: AnyModel, rows: int, tokens: int) -> bool:
    """Whether packing is possible here and saves time: on processors; not for one row in fp32 (LOG.md)."""
    matrix_VD = model.vocab_matrix
    here = matrix_VD.device.type == "cpu" and torch.backends.mkldnn.is_available()
    if not here or tokens < LEAST_TOKENS or matrix_VD.is_inference():  # inference tensors hide changes
        return False
    if rows == 1 and compiled(model.head):
        return False
    match matrix_VD.dtype:
        case torch.float32:
            able = rows > 1
        case torch.bfloat16:
            able = HAS_BF16
        case _:
            able = False
    return able and LEAST_BYTES <= sum(w.numel() * w.element_size() for w in weights(model)) <= MOST_BYTES


def weights(model: AnyModel) -> list[Tensor]:
    """The matrices the model multiplies with, the vocabulary's included."""
    found = [module.weight for module in model.modules() if isinstance(module, nn.Linear)]
    matrix_VD = model.vocab_matrix
    return found if any(weight is matrix_VD for weight in found) else [*found, matrix_VD]
