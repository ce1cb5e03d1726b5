"""GGUF files made by hand: a small Llama, bad files with the rule that refuses each, and a mutator.

The writer is ours: the library's would refuse to write most of these.
"""

import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

U8, U32, I32, F32, BOOL, STRING, ARRAY, U64, F64 = 0, 4, 5, 6, 7, 8, 9, 10, 12
CODES = {U8: "<B", U32: "<I", I32: "<i", F32: "<f", BOOL: "<B", U64: "<Q", F64: "<d"}
D, F, H, V = 32, 32, 2, 3  # sizes of the small Llama


@dataclass
class Tensor:
    """One line of the list of tensors, as it will stand in the file."""

    name: str | bytes
    dims: tuple[int, ...]
    kind: int
    offset: int
    axes: int | None = None


@dataclass
class File:
    """All that a GGUF file says; what is None is filled in as it should be."""

    keys: list[tuple[str | bytes, int, Any]]
    tensors: list[Tensor]
    data: bytes
    magic: bytes = b"GGUF"
    version: int = 3
    counts: tuple[int | None, int | None] = (None, None)
    alignment: int = 32
    order: str = "<"
    tail: bytes = b""
    cut: int | None = None
    patches: list[tuple[int, bytes]] = field(default_factory=list)


def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(raw)) + raw


def value(kind: int, said: Any) -> bytes:
    """The bytes of a value; an array is (kind, items) or (kind, items, the count it tells), bytes are raw."""
    if isinstance(said, bytes):
        return said
    if kind == STRING:
        return string(said)
    if kind == ARRAY:
        inner, items, *told = said
        body = b"".join(value(inner, item) for item in items)
        return struct.pack("<IQ", inner, told[0] if told else len(items)) + body
    return struct.pack(CODES[kind], said)


def written(file: File) -> bytes:
    """The bytes of a file."""
    tensors, keys = file.counts
    head = file.magic + struct.pack(file.order + "I", file.version)
    head += struct.pack("<Q", len(file.tensors) if tensors is None else tensors)
    head += struct.pack("<Q", len(file.keys) if keys is None else keys)
    for key, kind, said in file.keys:
        head += string(key) + struct.pack("<I", kind) + value(kind, said)
    for tensor in file.tensors:
        axes = len(tensor.dims) if tensor.axes is None else tensor.axes
        head += string(tensor.name) + struct.pack("<I", axes)
        head += b"".join(struct.pack("<Q", size) for size in tensor.dims)
        head += struct.pack("<IQ", tensor.kind, tensor.offset)
    head += b"\0" * (-len(head) % max(1, file.alignment))
    whole = bytearray(head + file.data + file.tail)
    for at, new in file.patches:
        place = at % max(1, len(whole))
        whole[place : place + len(new)] = new
    return bytes(whole[: file.cut])


def small() -> File:
    """A Llama of one layer, random, in four kinds of numbers."""
    keys: list[tuple[str | bytes, int, Any]] = [
        ("general.architecture", STRING, "llama"),
        ("general.alignment", U32, 32),
        ("llama.block_count", U32, 1),
        ("llama.context_length", U32, 16),
        ("llama.embedding_length", U32, D),
        ("llama.feed_forward_length", U32, F),
        ("llama.attention.head_count", U32, H),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, ["a", "b", "ü"])),
        ("tokenizer.ggml.scores", ARRAY, (F32, [0.0, -1.0, -2.0])),
        ("tokenizer.ggml.add_bos_token", BOOL, 1),
        ("tokenizer.ggml.eos_token_id", U32, 2),
        ("custom.large", U64, 2**63),
        ("custom.real", F64, 0.5),
    ]
    draw = np.random.default_rng(0)
    tensors, data = [], b""
    for name, rows, kind, block in (
        ("token_embd.weight", V, 0, 4 * D),
        ("output_norm.weight", 0, 0, 4 * D),
        ("blk.0.attn_norm.weight", 0, 0, 4 * D),
        ("blk.0.ffn_norm.weight", 0, 0, 4 * D),
        ("blk.0.attn_q.weight", D, 8, 34),
        ("blk.0.attn_k.weight", D, 2, 18),
        ("blk.0.attn_v.weight", D, 1, 2 * D),
        ("blk.0.attn_output.weight", D, 30, 2 * D),
        ("blk.0.ffn_gate.weight", F, 8, 34),
        ("blk.0.ffn_up.weight", F, 8, 34),
        ("blk.0.ffn_down.weight", D, 8, 34),
    ):
        tensors.append(Tensor(name, (D, rows) if rows else (D,), kind, len(data)))
        data += draw.integers(0, 60, block * max(1, rows), np.uint8).tobytes()  # no scale is infinite
        data += b"\0" * (-len(data) % 32)
    return File(keys, tensors, data)


def with_key(key: str | bytes, kind: int, said: Any) -> bytes:
    file = small()
    return written(replace(file, keys=[*(k for k in file.keys if k[0] != key), (key, kind, said)]))


def with_tensor(number: int = 0, **other: Any) -> bytes:
    file = small()
    file.tensors[number] = replace(file.tensors[number], **other)
    return written(file)


def but(**other: Any) -> bytes:
    return written(replace(small(), **other))


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "does not begin with GGUF"),
    "another magic": (but(magic=b"GGML"), "does not begin with GGUF"),
    "only the magic": (b"GGUF", "ends inside its header"),
    "version 0": (but(version=0), "version 0"),
    "version 1": (but(version=1), "version 1"),
    "version 4": (but(version=4), "version 4"),
    "big endian": (but(order=">"), "big endian"),
    "2^62 tensors": (but(counts=(2**62, None)), "tensors, but only"),
    "2^62 keys": (but(counts=(None, 2**62)), "keys, but only"),
    "a tensor more than there are": (
        but(counts=(12, None)),
        "without name",
    ),
    "a key of 2^62 bytes": (
        with_key(struct.pack("<Q", 2**62) and "k", STRING, struct.pack("<Q", 2**62)),
        "only",
    ),
    "a string of 2^62 bytes": (
        with_key("x", STRING, struct.pack("<Q", 2**62) + b"abc"),
        "bytes of the string",
    ),
    "a key of 70,000 bytes": (with_key("k" * 70_000, U32, 1), "at most 65,535"),
    "a key without a name": (with_key("", U32, 1), "without a name"),
    "a key twice": (
        but(keys=[*small().keys, ("llama.block_count", U32, 2)]),
        "'llama.block_count' stands twice",
    ),
    "a key that is no UTF-8": (with_key(b"\xff\xfe", U32, 1), "a key is not UTF-8"),
    "a string that is no UTF-8": (with_key("x", STRING, string(b"\xc3(")), "is not UTF-8"),
    "an unknown kind": (with_key("x", 13, b"\0" * 8), "unknown kind 13"),
    "a kind of 2^32 - 1": (with_key("x", 2**32 - 1, b"\0" * 8), "unknown kind"),
    "a truth value of 2": (with_key("x", BOOL, 2), "neither true nor false"),
    "truth values of 7": (with_key("x", ARRAY, (BOOL, [0, 1, 7])), "neither true nor false"),
    "10^9 numbers": (with_key("x", ARRAY, (U32, [], 10**9)), "1,000,000,000 numbers of 'x', but only"),
    "10^9 strings": (with_key("x", ARRAY, (STRING, [], 10**9)), "1,000,000,000 strings of 'x', but only"),
    "2^62 bytes in an array": (with_key("x", ARRAY, (U8, [], 2**62)), "numbers of 'x', but only"),
    "2^61 numbers of 8 bytes": (with_key("x", ARRAY, (F64, [], 2**61)), "numbers of 'x', but only"),
    "three million strings": (
        with_key("x", ARRAY, struct.pack("<IQ", STRING, 3 * 10**6) + bytes(24 * 10**6)),
        "strings, which",
    ),
    "an array of an unknown kind": (with_key("x", ARRAY, (99, [], 1)), "array of the unknown kind 99"),
    "an array of arrays": (with_key("x", ARRAY, (ARRAY, [(U32, [1])])), "array of arrays"),
    "20,000 arrays in arrays": (
        with_key("x", ARRAY, struct.pack("<IQ", ARRAY, 1) * 20_000 + struct.pack("<IQ", U32, 0)),
        "array of arrays",
    ),
    "alignment 0": (with_key("general.alignment", U32, 0), "not a power of two"),
    "alignment 24": (with_key("general.alignment", U32, 24), "not a power of two"),
    "alignment 2 MiB": (with_key("general.alignment", U32, 2**21), "not a power of two up to"),
    "alignment 2^63": (with_key("general.alignment", U64, 2**63), "not a power of two up to"),
    "alignment in words": (with_key("general.alignment", STRING, "32"), "not a power of two"),
    "alignment true": (with_key("general.alignment", BOOL, 1), "not a power of two"),
    "alignment -32": (with_key("general.alignment", I32, -32), "not a power of two"),
    "five axes": (with_tensor(dims=(D, 1, 1, 1, V)), "5 axes, at most 4"),
    "2^31 axes": (with_tensor(axes=2**31), "axes, at most 4"),
    "an axis of length 0": (with_tensor(dims=(D, 0)), "an axis of length 0"),
    "0 of 2^60 rows": (with_tensor(dims=(0, 2**60)), "an axis of length 0"),
    "a product of 2^66": (with_tensor(dims=(2**33, 2**33)), "takes .* bytes, the file has"),
    "a product that overflows to 0": (with_tensor(dims=(2**32, 2**32)), "takes .* bytes, the file has"),
    "a product that overflows right": (with_tensor(dims=(2**62, 4, D, V)), "takes .* bytes, the file has"),
    "an axis of 2^64 - 1": (with_tensor(dims=(2**64 - 1,)), "takes .* bytes, the file has"),
    "half a block": (with_tensor(4, dims=(16, 64)), "rows of 16, but Q8_0 keeps 32"),
    "an unknown kind of tensor": (with_tensor(kind=99), "unknown kind 99"),
    "a kind that is gone": (with_tensor(kind=4), "unknown kind 4"),
    "a tensor twice": (with_tensor(1, name="token_embd.weight"), "'token_embd.weight' stands twice"),
    "a tensor without a name": (with_tensor(name=""), "without name"),
    "a name of 65 bytes": (with_tensor(name="n" * 65), "65 bytes, at most 64"),
    "a name that is no UTF-8": (with_tensor(name=b"\xff"), "name is not UTF-8"),
    "an offset that is not aligned": (with_tensor(1, offset=385), "not at a multiple of 32"),
    "an offset of 2^63": (with_tensor(10, offset=2**63), "leaves a hole"),
    "an offset that wraps": (with_tensor(10, offset=2**64 - 32), "leaves a hole"),
    "an overlap": (with_tensor(1, offset=352), "overlaps"),
    "the same bytes": (with_tensor(2, offset=384), "overlaps"),
    "a hole": (with_tensor(10, offset=small().tensors[10].offset + 32), "leaves a hole"),
    "a first tensor that is not first": (but(tensors=small().tensors[1:]), "leaves a hole"),
    "data cut off": (but(cut=-33), "cut off"),
    "no data": (but(data=b""), "cut off|the file has"),
    "a zip archive": (b"PK\x03\x04" + but(), "never unpickles"),
    "a pickle": (b"\x80\x05" + but(), "never unpickles"),
}

MODEL: dict[str, tuple[bytes, str]] = {  # whole as files, but no model we can build
    "another architecture": (with_key("general.architecture", STRING, "mamba"), "'mamba' is not built"),
    "an architecture that is a number": (with_key("general.architecture", U32, 1), "'1' is not built"),
    "2^31 layers": (with_key("llama.block_count", U32, 2**31 - 1), "layers, but the file has"),
    "2^62 layers": (with_key("llama.block_count", U64, 2**62), "is not a whole number"),
    "no layers": (with_key("llama.block_count", U32, 0), "is not a whole number"),
    "layers in words": (with_key("llama.block_count", STRING, "1"), "is not a whole number"),
    "a list of layers": (with_key("llama.block_count", ARRAY, (U32, [1, 1])), "is not a whole number"),
    "a width of 2^30": (with_key("llama.embedding_length", U32, 2**30), "shape|do not fit"),
    "no heads": (with_key("llama.attention.head_count", U32, 0), "is not a whole number"),
    "three heads for two": (with_key("llama.attention.head_count_kv", U32, 3), "do not fit"),
    "an epsilon that is no number": (
        with_key("llama.attention.layer_norm_rms_epsilon", F32, float("nan")),
        "is not a finite number",
    ),
    "an unknown key": (with_key("llama.attention.clamp", F32, 1.0), "llama.attention.clamp: not known"),
    "experts": (with_key("llama.expert_count", U32, 8), "experts are not built"),
    "a rotation of half a head": (
        with_key("llama.rope.dimension_count", U32, 8),
        "the metadata tells of",
    ),
    "another stretch": (with_key("llama.rope.scaling.type", STRING, "longrope"), "longrope"),
    "more tokens than rows": (with_key("tokenizer.ggml.tokens", ARRAY, (STRING, ["x"] * 4)), "4 tokens, but"),
    "another vocabulary": (with_key("llama.vocab_size", U32, 4), "the embedding has 3 rows"),
    "a missing tensor": (with_tensor(10, name="blk.0.ffn_down.weigth"), "'blk.0.ffn_down.weight' is missing"),
    "no embedding": (with_tensor(0, name="embd"), "token_embd.weight is missing"),
    "a list of experts": (with_key("llama.expert_count", ARRAY, (U32, [1, 2])), "experts are not built"),
    "a list of windows": (
        with_key("llama.attention.sliding_window", ARRAY, (U32, [1, 2])),
        "is not a whole number",
    ),
    "a list of stretches": (with_key("llama.rope.scaling.type", ARRAY, (U32, [1, 2])), "is not known"),
    "a list of vocabularies": (with_key("llama.vocab_size", ARRAY, (U32, [3, 3])), "the embedding has 3"),
    "a list of numbers of parts": (with_key("split.count", ARRAY, (U32, [1, 1])), "one of several files"),
    "a part of a model": (with_key("split.count", U32, 3), "one of several files"),
    "another shape": (with_tensor(4, dims=(D, D // 2, 2)), "but the metadata tells of"),
}

KINDS = (0, 1, 2, 3, 6, 8, 10, 12, 14, 16, 24, 30, 39, 99, 4, 2**32 - 1)
NUMBERS = (0, 1, 2, 3, 16, 31, 32, 33, 64, 96, 384, 2**16, 2**31, 2**32 - 1)
LARGE = (*NUMBERS, 2**32, 2**33, 2**60, 2**62, 2**63, 2**64 - 1)


def mutated(draw: random.Random) -> bytes:
    """The small Llama after one to three changes of its structure or its bytes."""
    file = small_copy()
    for _ in range(draw.choice((1, 1, 2, 3))):
        draw.choice(CHANGES)(draw, file)
    try:
        return written(file)
    except struct.error:  # a number that its kind cannot hold: nothing to write
        return written(small_copy())


_SMALL = small()


def small_copy() -> File:
    return replace(_SMALL, keys=list(_SMALL.keys), tensors=[replace(t) for t in _SMALL.tensors], patches=[])


def a_key_s_value(draw: random.Random, file: File) -> None:
    if file.keys:
        at = draw.randrange(len(file.keys))
        key, kind, said = file.keys[at]
        if kind == ARRAY and not isinstance(said, bytes):
            inner, items, *_ = said
            said = (inner, items, draw.choice(LARGE))
        elif kind in (U32, U64):
            said = draw.choice(NUMBERS)
        elif kind == F32:
            said = draw.choice((0.0, -1.0, float("nan"), float("inf"), 1e-5))
        elif kind == STRING:
            said = draw.choice(("", "gpt2", "qwen2", "llama", b"\xff" * 9, struct.pack("<Q", 2**62)))
        file.keys[at] = (key, kind, said)


def a_key_s_kind(draw: random.Random, file: File) -> None:
    if file.keys:
        at = draw.randrange(len(file.keys))
        key = file.keys[at][0]
        kind = draw.choice((*range(14), 255, 2**32 - 1))
        file.keys[at] = (key, kind, draw.randbytes(draw.choice((1, 2, 4, 8, 12, 20))))


def a_key_s_name(draw: random.Random, file: File) -> None:
    if file.keys:
        at = draw.randrange(len(file.keys))
        _, kind, said = file.keys[at]
        new = draw.choice(("", "llama.block_count", "general.alignment", "llama.x", b"\xff", "k" * 70_000))
        file.keys[at] = (new, kind, said)


def a_key_less(draw: random.Random, file: File) -> None:
    if file.keys:
        del file.keys[draw.randrange(len(file.keys))]


def keys_in_another_order(draw: random.Random, file: File) -> None:
    """Still a good file."""
    draw.shuffle(file.keys)
    file.keys = [*file.keys, ("general.note", STRING, "x" * draw.randrange(99))]


def a_tensor_s_line(draw: random.Random, file: File) -> None:
    if file.tensors:
        tensor = draw.choice(file.tensors)
        match draw.randrange(5):
            case 0:
                tensor.dims = tuple(draw.choice(LARGE) for _ in range(draw.randrange(6)))
            case 1:
                tensor.kind = draw.choice(KINDS)
            case 2:
                tensor.offset = draw.choice((*LARGE, tensor.offset + 32, max(0, tensor.offset - 32)))
            case 3:
                tensor.axes = draw.choice((0, 1, 2, 3, 4, 5, 2**31, 2**32 - 1))
            case 4:
                tensor.name = draw.choice(("", "output.weight", "token_embd.weight", b"\xc3(", "n" * 99))


def a_tensor_less(draw: random.Random, file: File) -> None:
    if file.tensors:
        del file.tensors[draw.randrange(len(file.tensors))]


def a_tensor_reshaped(draw: random.Random, file: File) -> None:
    """Still a good file, though not of the same model."""
    if file.tensors:
        tensor = draw.choice(file.tensors)
        tensor.dims = (*tensor.dims, *[1] * draw.randrange(3))


def tensors_in_another_order(draw: random.Random, file: File) -> None:
    """Still a good file."""
    draw.shuffle(file.tensors)


def counts(draw: random.Random, file: File) -> None:
    said = (draw.choice((None, *LARGE)), draw.choice((None, *LARGE)))
    file.counts = said


def the_head(draw: random.Random, file: File) -> None:
    file.version = draw.choice((0, 1, 2, 2, 3, 4, 2**31))
    file.order = draw.choice("<<<>")


def the_alignment(draw: random.Random, file: File) -> None:
    said = draw.choice((*NUMBERS, 8, 128, 4_096, 2**20, 2**21))
    file.keys = [
        (key, kind, said if key == "general.alignment" and kind == U32 else old)
        for key, kind, old in file.keys
    ]
    file.alignment = draw.choice((32, min(said, 2**16)))


def bytes_anywhere(draw: random.Random, file: File) -> None:
    new = draw.choice((draw.randbytes(1), b"\xff" * 4, b"\xff" * 8, b"\0" * 8, struct.pack("<Q", 2**62)))
    file.patches.append((draw.randrange(1_500), new))


def the_end(draw: random.Random, file: File) -> None:
    if draw.randrange(2):
        file.cut = draw.randrange(len(written(file)) + 1)
    else:
        file.tail = draw.randbytes(draw.randrange(64))


CHANGES: tuple[Callable[[random.Random, File], None], ...] = (
    *(a_key_s_value, a_key_s_value, a_key_s_kind, a_key_s_name, a_key_less, keys_in_another_order),
    *(a_tensor_s_line, a_tensor_s_line, a_tensor_s_line, a_tensor_less, a_tensor_reshaped),
    *(tensors_in_another_order, counts, the_head, the_alignment, bytes_anywhere, bytes_anywhere, the_end),
)
