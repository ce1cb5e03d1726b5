"""A model in one file that says all of itself, GGUF or llama2.c, read as its Hugging Face folder would be."""

from pathlib import Path

import torch

from cutaway.data.tokenizer import Tokenizer
from cutaway.data.vocabularies import gguf_vocabulary, llama2c_vocabulary
from cutaway.errors import FileFormatError, InputMissingError
from cutaway.weights import llama2c
from cutaway.weights.config import Table
from cutaway.weights.folder import Pretrained, assemble
from cutaway.weights.gguf import Gguf, hugging_face, read_gguf
from cutaway.weights.gguf.header import MAGIC
from cutaway.weights.pickled import check_not_pickled
from cutaway.weights.run import as_dtype

TEMPLATE = "tokenizer.chat_template"
VOCABULARY = "tokenizer.bin"  # beside a llama2.c model; or the only file there whose name begins so


def recognise(path: str | Path) -> Gguf | llama2c.Llama2c:
    """The header of a GGUF or llama2.c file, known by its first bytes or its name, or else by its size.

    Raises InputMissingError where there is no such file, FileFormatError naming the file and what is wrong.
    """
    path = Path(path)
    first = beginning(path)
    if is_gguf(path, first):
        return read_gguf(path)
    if path.suffix == ".safetensors" or first[8:] == b"{":
        raise FileFormatError(path, "holds tensors, but not what to do with them: give the folder it is from")
    if path.suffix != ".bin":
        check_not_pickled(path, first)
    return llama2c.read_llama2c(path)


def read_model(
    found: Gguf | llama2c.Llama2c,
    *,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Pretrained:
    """The model of such a file; `dtype` is what the weights are turned into, None is fp32.

    Raises FileFormatError naming the file and what of the model cannot be represented.
    """
    path, kind = found.path, as_dtype(dtype) or torch.float32
    config, tensors = hugging_face(found) if isinstance(found, Gguf) else llama2c.hugging_face(found)
    return assemble(Table(config, path), tensors(kind), path, device=device, dtype=kind, folder=path)


def read_words(found: Gguf | llama2c.Llama2c) -> tuple[Tokenizer, str | None]:
    """The tokenizer of such a model, in a GGUF file or beside a llama2.c one, and the chat template, where a
    GGUF file has one.

    Raises InputMissingError where there is none, FileFormatError where it is none that can be read.
    """
    if isinstance(found, Gguf):
        template = found.metadata.get(TEMPLATE)
        if template is not None and not isinstance(template, str):
            raise FileFormatError(found.path, f"{TEMPLATE} is no text; convert the model anew")
        return gguf_vocabulary(found.metadata, found.path), template
    beside = vocabulary_beside(found.path)
    words = llama2c.read_vocabulary(beside, found.vocab)
    return llama2c_vocabulary(words.pieces, [float(score) for score in words.scores], beside), None


def vocabulary_beside(path: Path) -> Path:
    """The file with the vocabulary of a llama2.c model; InputMissingError where nothing tells which it is."""
    found = [each for each in path.parent.glob("tok*.bin") if each != path]
    if path.parent / VOCABULARY in found:
        return path.parent / VOCABULARY
    if len(found) != 1:
        raise InputMissingError(f"{path}: its vocabulary is another file; put it beside as {VOCABULARY}")
    return found[0]


def is_gguf(path: Path, first: bytes) -> bool:
    """Whether a file that begins so is to be read as GGUF: a damaged one is known by its name."""
    return first[:4] == MAGIC or path.suffix == ".gguf"


def beginning(path: Path) -> bytes:
    """The first nine bytes of a file; InputMissingError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(9)
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
