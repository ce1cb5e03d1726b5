"""safetensors files: checked in full by us before the library maps them, written the same way every time.

    8 bytes   length of the header, little endian
    header    JSON: {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, ...}, and
              "__metadata__", a table of strings
    data      one tensor after the other, no byte between, none behind

The rules are those of the format (huggingface/safetensors, README), and two more: no axis is so long that a
product overflows where another axis is 0, and no key stands twice.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import IO, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from cutaway import store
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, nearest
from cutaway.weights.pickled import check_not_pickled

MOST_HEADER = 100_000_000
MOST_ELEMENTS = 2**48  # of a tensor, its zeros taken for ones
MOST_AXES = 16
MOST_NAME = 1_024
DEPTH = 3
ALIGNMENT = 8
METADATA = "__metadata__"
KEYS = {"dtype", "shape", "data_offsets"}

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}
# Of the format, but nothing that a model here is made of, or that torch computes with.
UNREAD = frozenset(
    ("F4", "F6_E2M3", "F6_E3M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "C64", "U16", "U32", "U64")
)


@dataclass(frozen=True)
class Info:
    """One tensor: its bytes are those from `begin` to before `end` of the whole file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Header:
    """What a safetensors file says it holds, checked against its size; `size` is that of the whole file."""

    tensors: dict[str, Info]
    metadata: dict[str, str] = field(default_factory=dict)
    size: int = 0


def read_header(path: str | Path) -> Header:
    """The header of a safetensors file, in the order of its bytes; of the rest nothing is read.

    Raises InputMissingError where there is no such file, FileFormatError with the rule it breaks.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            first = file.read(9)
            if first[8:] != b"{":  # a length may begin as a pickle does
                check_not_pickled(path, first)
            length = header_length(path, first[:8], size)
            file.seek(8)
            data = file.read(length)
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    if len(data) < length:
        raise FileFormatError(path, "ends inside its header; copy it again", 8 + len(data))
    if data[:1] != b"{":
        raise FileFormatError(path, "the header does not begin with {; no safetensors file", 8)
    return check_header(path, store.read_json(path, data, DEPTH, 8), 8 + length, size)


def header_length(path: Path, first: bytes, size: int) -> int:
    """The length that the first 8 bytes of a file tell; FileFormatError where the file has no room for it."""
    if len(first) < 8:
        raise FileFormatError(path, f"{size} bytes are no safetensors file; copy it again", 0)
    length = int.from_bytes(first, "little")
    if length > MOST_HEADER:
        raise FileFormatError(path, f"header of {length:,} bytes, at most {MOST_HEADER:,} are allowed", 0)
    if length > size - 8:
        raise FileFormatError(path, f"header of {length:,} bytes, but only {size - 8:,} follow: cut off", 0)
    return length


def check_header(path: Path, table: Any, begin: int, size: int) -> Header:
    """The header that a table describes, whose data begins at byte `begin` of `size`; FileFormatError."""
    if not isinstance(table, dict):
        raise FileFormatError(path, "the header is no table; no safetensors file", 8)
    metadata = table.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(said, str) for said in metadata.values()):
        raise FileFormatError(path, f"{METADATA} is not a table of strings; write the file anew", 8)
    found = {name: check_entry(path, name, entry, begin) for name, entry in table.items()}
    tensors = dict(sorted(found.items(), key=lambda item: (item[1].begin, item[1].end)))
    at = begin
    for name, info in tensors.items():
        if info.begin != at:
            told = "overlaps the tensor before it" if info.begin < at else "leaves a hole in front of it"
            raise FileFormatError(path, f"{named(name)} {told}: starts at byte {info.begin:,}", at)
        at = info.end
    if at != size:
        told = f"{size - at:,} bytes follow the last tensor" if at < size else f"{at - size:,} bytes missing"
        raise FileFormatError(path, f"{told}; copy or download the file again", min(at, size))
    return Header(tensors, metadata, size)


def check_entry(path: Path, name: str, entry: Any, start: int) -> Info:
    """One tensor's line of the header; FileFormatError where dtype, shape and offsets do not fit together."""

    def refuse(rule: str) -> FileFormatError:
        return FileFormatError(path, f"{named(name)} {rule}", 8)

    if not name or len(name) > MOST_NAME:
        raise refuse(f"has a name of {len(name):,} characters, 1 to {MOST_NAME:,} are allowed")
    if not isinstance(entry, dict) or set(entry) != KEYS:
        raise refuse("is not described by dtype, shape and data_offsets alone")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        if isinstance(dtype, str) and dtype in UNREAD:
            raise refuse(f"has dtype {dtype}, which is not read here; save it as F32, F16 or BF16")
        raise refuse(f"has dtype {str(dtype)[:40]!r}; {nearest(str(dtype)[:40], DTYPES)}")
    if not are_counts(shape) or len(shape) > MOST_AXES:
        raise refuse(f"has no shape of at most {MOST_AXES} whole numbers from 0 on")
    if not are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise refuse("has no data_offsets [begin, end]")
    if prod(axis or 1 for axis in shape) > MOST_ELEMENTS:
        raise refuse(f"has a shape beyond {MOST_ELEMENTS:,} elements")
    need, have = prod(shape) * DTYPES[dtype].itemsize, offsets[1] - offsets[0]
    if need != have:
        raise refuse(f"needs {need:,} bytes for {dtype} {shape}, but has {have:,}")
    return Info(dtype, tuple(shape), start + offsets[0], start + offsets[1])


def are_counts(value: Any) -> bool:
    """Whether a value is a list of whole numbers from 0 on; true and 1.0 are none."""
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def named(name: str) -> str:
    """A tensor's name as errors show it."""
    return f"tensor {name[:80]!r}"


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, mapped, not copied, after `read_header` has checked it.

    Raises as that does. To write to one leaves the file alone.
    """
    header = read_header(path)
    try:
        found = safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as problem:
        raise FileFormatError(path, f"not a safetensors file ({problem}); save or copy it again") from None
    for name, info in header.tensors.items():
        if info.dtype == "BOOL" and (found[name].view(torch.uint8) > 1).any():
            raise FileFormatError(path, f"{named(name)} holds what is neither true nor false", info.begin)
    return {name: found[name] for name in header.tensors}


def write_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Makes or replaces a safetensors file in one instant: equal tensors and metadata give equal bytes.

    Raises SaveError, what was there before untouched, and ConfigError for a dtype the format has not.
    """
    head = header_bytes(tensors, metadata)
    need = len(head) + sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    store.stream_file(Path(path), lambda file: put_tensors(file, tensors, metadata), need=need)


def put_tensors(
    file: IO[bytes], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a safetensors file as it goes: no second copy in memory, and a full disk is an OSError."""
    file.write(header_bytes(tensors, metadata))
    for _, tensor in ordered(tensors):
        flat_E = tensor.detach().cpu().contiguous().reshape(-1)
        file.write(flat_E.view(torch.uint8).numpy().data)


def header_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Length and header of a safetensors file, filled up so that the data begins at a multiple of 8."""
    table: dict[str, object] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, tensor in ordered(tensors):
        if tensor.dtype not in NAMES:
            raise ConfigError(f"{name}: {tensor.dtype} cannot be written; {nearest('', NAMES.values())}")
        begin, end = end, end + tensor.numel() * tensor.element_size()
        table[name] = {
            "dtype": NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    told = json.dumps(table, separators=(",", ":"), ensure_ascii=False).encode()
    told += b" " * (-len(told) % ALIGNMENT)
    return len(told).to_bytes(8, "little") + told


def ordered(tensors: Mapping[str, Tensor]) -> list[tuple[str, Tensor]]:
    """By the size of an element, the largest first, so that all are aligned; then by name."""
    return sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
