"""Tensors out of a checked GGUF file: mapped where they are numbers already, else dequantised."""

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import FileFormatError, MissingExtraError
from cutaway.weights.gguf.header import Gguf, TensorInfo

PLAIN = {"F32": "<f4", "F64": "<f8", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


def read_tensor(gguf: Gguf, name: str) -> Tensor:
    """A tensor by its name in the file: F32, F64 and whole numbers as they are and mapped, all else as fp32.

    Raises FileFormatError for a kind that the gguf library cannot dequantise, MissingExtraError where a kind
    needs the library and it is not installed.
    """
    info = gguf.tensors[name]
    if info.kind.name in PLAIN:
        return torch.from_numpy(mapped(gguf, info).view(PLAIN[info.kind.name]).reshape(info.shape))
    try:
        from gguf import GGMLQuantizationType
        from gguf.quants import dequantize
    except ImportError:
        raise MissingExtraError("gguf") from None
    try:
        kind = GGMLQuantizationType[info.kind.name]
        with np.errstate(all="ignore"):  # of scales that are not finite: the numbers then are not, either
            values = dequantize(mapped(gguf, info), kind)
    except (NotImplementedError, KeyError):
        told = f"tensor {name!r} is kept as {info.kind.name}, which the gguf library cannot dequantise"
        raise FileFormatError(gguf.path, f"{told}; quantise it in another way", info.begin) from None
    return torch.from_numpy(values.reshape(info.shape))


def mapped(gguf: Gguf, info: TensorInfo) -> np.ndarray:
    """The bytes of a tensor, a row of blocks a row; to write to them leaves the file alone."""
    rows = info.shape[:-1]
    row = (info.shape[-1] if info.shape else 1) // info.kind.block * info.kind.size
    data = np.memmap(gguf.path, np.uint8, "c", info.begin, (*rows, row))
    return data.view(np.ndarray)
