"""llama2.c's float32 files (karpathy/llama2.c, the first and unversioned layout), and its vocabularies.

    7 numbers  i32: width, hidden, layers, heads, key/value heads, vocab (negative: not tied), length
    weights    f32: embedding; then each kind for all layers: attention's norm, q, k, v, out, feed-forward's
               norm, gate, down, up; the last norm; cosines and sines of the rotation; vocabulary if not tied

The file has no magic: it is known by its size, which the seven numbers determine. Its q and k rotate adjacent
pairs; here the rows are put into the order of Hugging Face's halves, which is the same function.

D width   H query heads   G key/value heads   K head width   F feed-forward hidden   V vocabulary   N layers
L positions   E all numbers, flat
"""

import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.store import read_file
from cutaway.weights.pickled import check_not_pickled

HEADER = struct.Struct("<7i")
VERSIONED = b"24ka"  # "ak42", a later layout
THETA, EPS = 10_000.0, 1e-5  # of every such file: llama2.c has them in its code
START, END = 1, 2
MOST_AXIS = 2**24
MOST_LAYERS = 2**12
MOST_VOCABULARY_BYTES, MOST_PIECE = 2**26, 2**10
PIECE = struct.Struct("<fi")


@dataclass(frozen=True)
class Llama2c:
    """A checked llama2.c file: its seven numbers, `tied` for the sign of the sixth."""

    path: Path
    width: int
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    length: int
    tied: bool
    size: int

    def shapes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The arrays of the file in order; each but the first, the norm and the tables is of all layers."""
        D, F, N, H, G, V, L = self.numbers()
        K = D // H
        yield "embed_tokens", (V, D)
        yield "input_layernorm", (N, D)
        yield "self_attn.q_proj", (N, H * K, D)
        yield "self_attn.k_proj", (N, G * K, D)
        yield "self_attn.v_proj", (N, G * K, D)
        yield "self_attn.o_proj", (N, D, H * K)
        yield "post_attention_layernorm", (N, D)
        yield "mlp.gate_proj", (N, F, D)
        yield "mlp.down_proj", (N, D, F)
        yield "mlp.up_proj", (N, F, D)
        yield "norm", (D,)
        yield "cosines", (L, K // 2)
        yield "sines", (L, K // 2)
        if not self.tied:
            yield "lm_head", (V, D)

    def numbers(self) -> tuple[int, ...]:
        return self.width, self.hidden, self.layers, self.heads, self.kv_heads, self.vocab, self.length


@dataclass(frozen=True)
class Vocabulary:
    """A sentencepiece vocabulary as llama2.c keeps it: a piece and its score for each id.

    A space stands for itself, bytes are called `<0x0A>`, ids 1 and 2 begin and end a text.
    """

    pieces: tuple[str, ...]
    scores: np.ndarray


def read_llama2c(path: str | Path) -> Llama2c:
    """The seven numbers of a llama2.c file, held against its size; no weight is read.

    Raises InputMissingError where there is no such file, FileFormatError where it is none.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(HEADER.size)
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    if first[:4] in (VERSIONED, VERSIONED[::-1]):
        raise FileFormatError(path, "a later layout of llama2.c; export it anew with --version 0", 0)
    if len(first) < HEADER.size:
        check_not_pickled(path, first)
        raise FileFormatError(path, f"{size} bytes are no llama2.c file; copy it again", 0)
    width, hidden, layers, heads, kv_heads, vocab, length = HEADER.unpack(first)
    found = Llama2c(path, width, hidden, layers, heads, kv_heads, abs(vocab), length, vocab > 0, size)
    most = max(width, hidden, heads, kv_heads, abs(vocab), length)
    if min(found.numbers()) < 1 or most > MOST_AXIS or layers > MOST_LAYERS:
        check_not_pickled(path, first)
        raise FileFormatError(path, f"begins with {found.numbers()}, which describe no llama2.c model", 0)
    if width % heads or heads % kv_heads or width // heads % 2:
        told = f"{heads} heads and {kv_heads} key/value heads do not fit the width {width}"
        raise FileFormatError(path, told, 12)
    need = HEADER.size + 4 * sum(prod(shape) for _, shape in found.shapes())
    if need != size:
        told = f"{size:,} bytes, but its first numbers {found.numbers()} tell of {need:,}"
        raise FileFormatError(path, f"{told}; no llama2.c file, or damaged", size)
    return found


def hugging_face(found: Llama2c) -> tuple[dict[str, Any], Callable[..., dict[str, Tensor]]]:
    """The config table of a llama2.c model and a function that maps its tensors, both as Hugging Face keeps
    a Llama; of the `dtype` it is given, fp32 if none.
    """
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": found.vocab,
        "hidden_size": found.width,
        "intermediate_size": found.hidden,
        "num_hidden_layers": found.layers,
        "num_attention_heads": found.heads,
        "num_key_value_heads": found.kv_heads,
        "head_dim": found.width // found.heads,
        "hidden_act": "silu",
        "max_position_embeddings": found.length,
        "rms_norm_eps": EPS,
        "rope_theta": THETA,
        "rope_scaling": None,
        "tie_word_embeddings": found.tied,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": START,
        "eos_token_id": END,
    }

    def tensors(dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
        return {name: tensor.to(dtype) for name, tensor in named_tensors(found)}

    return config, tensors


def named_tensors(found: Llama2c) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under its Hugging Face name, mapped but for q and k; the file stays as it is."""
    data_E = torch.from_numpy(np.memmap(found.path, "<f4", "c", HEADER.size).view(np.ndarray))
    at = 0
    for name, shape in found.shapes():
        size = prod(shape)
        value = data_E[at : at + size].view(shape)
        at += size
        if name in ("cosines", "sines"):  # they follow from theta; llama2.c does not read them either
            continue
        if name in ("embed_tokens", "norm"):
            yield f"model.{name}.weight", value
        elif name == "lm_head":
            yield f"{name}.weight", value
        else:
            for layer, part in enumerate(value):
                yield f"model.layers.{layer}.{name}.weight", part_of(found, name, part)


def part_of(found: Llama2c, name: str, part: Tensor) -> Tensor:
    """One layer's tensor, the rows of q and k from adjacent pairs to halves."""
    if name == "self_attn.q_proj":
        return halves(part, found.heads)
    return halves(part, found.kv_heads) if name == "self_attn.k_proj" else part


def halves(weight_ED: Tensor, heads: int) -> Tensor:
    """Within each head first the even rows, then the odd: pairs now lie half a head apart."""
    return weight_ED.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def read_vocabulary(path: str | Path, vocab: int) -> Vocabulary:
    """The vocabulary of a llama2.c tokenizer file, which has `vocab` pieces: the file does not say how many.

    Raises InputMissingError where there is no such file, FileFormatError where it is none.
    """
    path = Path(path)
    data = read_file(path, MOST_VOCABULARY_BYTES, "vocabulary")
    pieces, scores = [], []
    at = 4
    while at < len(data):
        if at + PIECE.size > len(data):
            raise FileFormatError(path, f"ends inside piece {len(pieces)}; copy it again", at)
        score, length = PIECE.unpack_from(data, at)
        at += PIECE.size
        if not 0 < length <= min(MOST_PIECE, len(data) - at) or not np.isfinite(score):
            told = f"piece {len(pieces)} has length {length} and score {score}"
            raise FileFormatError(path, f"{told}; no llama2.c vocabulary, or damaged", at - PIECE.size)
        try:
            pieces.append(data[at : at + length].decode("utf-8"))
        except UnicodeDecodeError as problem:
            raise FileFormatError(path, f"piece {len(pieces)} is not UTF-8", at + problem.start) from None
        scores.append(score)
        at += length
    if len(pieces) != vocab:
        raise FileFormatError(path, f"{len(pieces):,} pieces, but the model knows {vocab:,} tokens")
    longest = max(len(piece.encode()) for piece in pieces)
    if int.from_bytes(data[:4], "little") < longest:
        raise FileFormatError(path, f"a piece of {longest} bytes is longer than it says any is", 0)
    return Vocabulary(tuple(pieces), np.asarray(scores, np.float32))
