"""A model in one file that says all of itself, GGUF or llama2.c, read as its Hugging Face folder would be."""

from pathlib import Path

import torch

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.weights import llama2c
from cutaway.weights.config import Table
from cutaway.weights.folder import Pretrained, assemble
from cutaway.weights.gguf import hugging_face, read_gguf
from cutaway.weights.gguf.header import MAGIC
from cutaway.weights.pickled import check_not_pickled
from cutaway.weights.run import as_dtype


def read_file(
    path: str | Path, *, device: str | torch.device = "cpu", dtype: str | torch.dtype | None = None
) -> Pretrained:
    """The model of a GGUF or llama2.c file, known by its first bytes or else by its size.

    `dtype` is what the weights are turned into, None is fp32. Raises InputMissingError where there is no such
    file, FileFormatError naming the file and what is wrong, or what of the model cannot be represented.
    """
    path, kind = Path(path), as_dtype(dtype) or torch.float32
    first = beginning(path)
    if first[:4] == MAGIC:
        config, tensors = hugging_face(read_gguf(path))
    elif path.suffix == ".safetensors" or first[8:] == b"{":
        raise FileFormatError(path, "holds tensors, but not what to do with them: give the folder it is from")
    else:
        if path.suffix != ".bin":
            check_not_pickled(path, first)
        config, tensors = llama2c.hugging_face(llama2c.read_llama2c(path))
    return assemble(Table(config, path), tensors(kind), path, device=device, dtype=kind, folder=path)


def beginning(path: Path) -> bytes:
    """The first nine bytes of a file; InputMissingError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(9)
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
