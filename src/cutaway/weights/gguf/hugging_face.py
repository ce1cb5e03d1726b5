"""A GGUF file as the Hugging Face folder of the same model would be: its config table and its tensors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from cutaway.errors import FileFormatError, nearest
from cutaway.weights.gguf.architectures import ARCHITECTURES, check_shape
from cutaway.weights.gguf.header import Gguf
from cutaway.weights.gguf.keys import Keys, Line
from cutaway.weights.gguf.values import read_tensor

Tensors = Callable[..., dict[str, Tensor]]


def hugging_face(gguf: Gguf) -> tuple[dict[str, Any], Tensors]:
    """The config table of a GGUF file's model, and a function that reads its tensors under Hugging Face's
    names: dequantised, in fp32 or in the `dtype` it is given, one tensor at a time.

    Raises FileFormatError for an architecture, a key or a tensor that cannot be represented, and where
    tensors are missing or do not have the shapes that the metadata tells; no tensor is read for that.
    """
    architecture = gguf.metadata.get("general.architecture")
    if not isinstance(architecture, str) or architecture not in ARCHITECTURES:
        told = f"general.architecture {str(architecture)[:60]!r} is not built"
        raise FileFormatError(gguf.path, f"{told}; {nearest(str(architecture)[:60], ARCHITECTURES)}")
    if Keys(gguf, "split").get("count", 1) not in (0, 1):
        raise FileFormatError(gguf.path, "one of several files of a model: merge them with llama-gguf-split")
    config, lines = ARCHITECTURES[architecture](gguf)
    check_names(gguf, lines)
    for name, line in lines.items():
        check_shape(gguf, name, line)

    def tensors(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        return {line.name: read(gguf, name, line, dtype) for name, line in lines.items() if line.name}

    return config, tensors


def check_names(gguf: Gguf, lines: dict[str, Line]) -> None:
    """FileFormatError where a tensor is missing, or is one that the architecture has not."""
    for name in lines.keys() - gguf.tensors.keys():
        raise FileFormatError(gguf.path, f"tensor {name!r} is missing; the file is incomplete")
    for name in gguf.tensors.keys() - lines.keys():
        told = f"tensor {name!r} is not known here, and it may change the model"
        raise FileFormatError(gguf.path, f"{told}; {nearest(name, lines, most=1)}")


def read(gguf: Gguf, name: str, line: Line, dtype: torch.dtype) -> Tensor:
    """A tensor of the file, turned as Hugging Face keeps it."""
    value = read_tensor(gguf, name).to(dtype)
    return value if line.turn is None else line.turn(value)
