"""What a GGUF file says of itself, versions 2 and 3, read strictly: parse, bound, then allocate.

    "GGUF", version: u32, tensors: u64, keys: u64
    keys     name: string, kind: u32, value; a string is its length: u64 and UTF-8; an array is kind, count
    tensors  name: string, axes: u32, the axes' lengths: u64 each, the fastest first, kind: u32, offset: u64
    padding to a multiple of general.alignment, from where offsets count
    data     each tensor padded in the same way

All numbers are little endian. Every count is held against the bytes that are left before anything is made of
it. The rules are those of docs/gguf.md in ggml and of llama.cpp's reader; axes of length 0 and arrays of
arrays, which no model has, are refused besides.
"""

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.weights.gguf.kinds import ARRAY, BOOL, KINDS, NUMPY, READERS, STRING, UINT32, Kind
from cutaway.weights.pickled import check_not_pickled

MAGIC, VERSIONS = b"GGUF", (2, 3)
ALIGNMENT, MOST_ALIGNMENT = 32, 2**20
MOST_HEADER = 2**27
MOST_STRINGS = 2**21  # in all arrays: the largest vocabularies have a quarter of that, merges included
MOST_KEY, MOST_NAME = 2**16 - 1, 64
MOST_AXES = 4
LEAST_KEY, LEAST_TENSOR = 8 + 4 + 1, 8 + 4 + 4 + 8  # bytes that one takes up at least

Value = int | float | bool | str | tuple[str, ...] | np.ndarray


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its kind, its shape with the fastest axis last, its bytes `begin` to `end` of the file."""

    kind: Kind
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class Gguf:
    """A checked GGUF file: metadata (arrays of numbers as NumPy's, of strings as tuples), tensors by name."""

    path: Path
    version: int
    alignment: int
    metadata: dict[str, Value]
    tensors: dict[str, TensorInfo]
    size: int


def read_gguf(path: str | Path) -> Gguf:
    """What a GGUF file says it holds, checked against its size; no tensor is read.

    Raises InputMissingError where there is no such file, FileFormatError with the rule it breaks and where.
    """
    path = Path(path)
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            check_magic(path, file.read(8))
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return Cursor(path, data, size).file()
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None


def check_magic(path: Path, first: bytes) -> None:
    """Raises FileFormatError for what is not GGUF, or of another version or byte order."""
    if first[:4] != MAGIC:
        check_not_pickled(path, first)
        raise FileFormatError(path, "does not begin with GGUF; another format, or damaged", 0)
    if len(first) < 8:
        raise FileFormatError(path, "ends inside its header; copy it again", len(first))
    version = int.from_bytes(first[4:8], "little")
    if version in VERSIONS:
        return
    if int.from_bytes(first[4:8], "big") in (1, *VERSIONS):
        raise FileFormatError(path, "big endian, which is not read here; convert it to little endian", 4)
    raise FileFormatError(path, f"version {version}, but 2 and 3 are read; convert it with llama.cpp", 4)


class Cursor:
    """A place in the mapped bytes of a file, `at`, from which one reads on; errors name file and place."""

    def __init__(self, path: Path, data: mmap.mmap, size: int):
        self.path, self.data, self.size = path, data, size
        self.at, self.most = 4, min(size, MOST_HEADER)
        self.strings = 0

    def refuse(self, rule: str, at: int | None = None) -> FileFormatError:
        return FileFormatError(self.path, rule, self.at if at is None else at)

    def number(self, kind: int = UINT32) -> int | float:
        reader = READERS[kind]
        self.expect(reader.size)
        (value,) = reader.unpack_from(self.data, self.at)
        self.at += reader.size
        return value

    def count(self, kind: int, least: int, of: str) -> int:
        """A number of things that take up at least so many bytes each, all of which are still there."""
        count = int(self.number(kind))
        if count > (self.most - self.at) // least:
            told = f"{count:,} {of}, but only {self.most - self.at:,} bytes follow"
            raise self.refuse(told, self.at - READERS[kind].size)
        return count

    def expect(self, size: int) -> None:
        if size > self.most - self.at:
            told = "ends inside its header; copy it again"
            if self.most < self.size:
                told = f"a header of more than {MOST_HEADER:,} bytes, which no model has"
            raise self.refuse(told, self.most)

    def string(self, of: str, most: int = MOST_HEADER) -> str:
        begin = self.at
        length = self.count(10, 1, f"bytes of {of}")
        if length > most:
            raise self.refuse(f"{of} of {length:,} bytes, at most {most:,} are allowed", begin)
        text = self.data[self.at : self.at + length]
        try:
            told = text.decode("utf-8")
        except UnicodeDecodeError as problem:
            raise self.refuse(f"{of} is not UTF-8", self.at + problem.start) from None
        self.at += length
        return told

    def value(self, key: str) -> Value:
        kind = int(self.number())
        if kind == STRING:
            return self.string(f"the string {key!r}")
        if kind == ARRAY:
            return self.array(key)
        if kind not in READERS:
            raise self.refuse(f"{key!r} is of the unknown kind {kind}", self.at - 4)
        value = self.number(kind)
        if kind != BOOL:
            return value
        if value not in (0, 1):
            raise self.refuse(f"{key!r} is neither true nor false, but {value}", self.at - 1)
        return bool(value)

    def array(self, key: str) -> Value:
        kind = int(self.number())
        if kind == ARRAY:
            raise self.refuse(f"{key!r} is an array of arrays, which is not read here", self.at - 4)
        if kind == STRING:
            count = self.count(10, 8, f"strings of {key!r}")
            self.strings += count
            if self.strings > MOST_STRINGS:
                raise self.refuse(f"more than {MOST_STRINGS:,} strings, which no model has", self.at - 8)
            of = f"a string of {key!r}"
            return tuple(self.string(of) for _ in range(count))
        if kind not in READERS:
            raise self.refuse(f"{key!r} is an array of the unknown kind {kind}", self.at - 4)
        size = READERS[kind].size
        count = self.count(10, size, f"numbers of {key!r}")
        values = np.frombuffer(self.data[self.at : self.at + count * size], NUMPY[kind])
        if kind == BOOL:
            if values.size and values.max() > 1:
                raise self.refuse(f"{key!r} holds what is neither true nor false", self.at)
            values = values.astype(bool)
        self.at += count * size
        return values

    def file(self) -> Gguf:
        version = int(self.number())
        tensors = self.count(10, LEAST_TENSOR, "tensors")
        keys = self.count(10, LEAST_KEY, "keys")
        metadata: dict[str, Value] = {}
        for _ in range(keys):
            begin = self.at
            key = self.string("a key", MOST_KEY)
            if not key or key in metadata:
                raise self.refuse(f"key {key[:80]!r} stands twice" if key else "a key without a name", begin)
            metadata[key] = self.value(key[:80])
        alignment = self.alignment(metadata)
        listed = dict(self.listed(tensors))
        begin = self.at + -self.at % alignment
        return Gguf(self.path, version, alignment, metadata, self.placed(listed, begin, alignment), self.size)

    def alignment(self, metadata: dict[str, Value]) -> int:
        found = metadata.get("general.alignment", ALIGNMENT)
        if type(found) is not int or not 0 < found <= MOST_ALIGNMENT or found & (found - 1):
            told = f"general.alignment is {str(found)[:40]}, not a power of two up to {MOST_ALIGNMENT:,}"
            raise self.refuse(told)
        return found

    def listed(self, count: int) -> Iterator[tuple[str, tuple[int, TensorInfo]]]:
        """Name of each tensor, with the place where it is described; `begin` counts from the data's yet."""
        seen: set[str] = set()
        for _ in range(count):
            place = self.at
            name = self.string("a tensor's name", MOST_NAME)
            if not name or name in seen:
                raise self.refuse(f"tensor {name!r} stands twice" if name else "a tensor without name", place)
            seen.add(name)
            yield name, (place, self.described(name))

    def described(self, name: str) -> TensorInfo:
        place = self.at
        axes = int(self.number())
        if axes > MOST_AXES:
            raise self.refuse(f"tensor {name!r} has {axes:,} axes, at most {MOST_AXES} are allowed", place)
        shape = tuple(int(self.number(10)) for _ in range(axes))[::-1]
        kind, offset = KINDS.get(number := int(self.number())), int(self.number(10))
        if kind is None:
            raise self.refuse(f"tensor {name!r} is of the unknown kind {number}", self.at - 12)
        if 0 in shape:
            raise self.refuse(f"tensor {name!r} has an axis of length 0", place)
        row = shape[-1] if shape else 1
        if row % kind.block:
            told = f"rows of {row:,}, but {kind.name} keeps {kind.block} numbers together"
            raise self.refuse(f"tensor {name!r} has {told}", place)
        size = prod(shape) // kind.block * kind.size
        if size > self.size:
            raise self.refuse(f"tensor {name!r} takes {size:,} bytes, the file has {self.size:,}", place)
        return TensorInfo(kind, shape, offset, offset + size)

    def placed(
        self, listed: dict[str, tuple[int, TensorInfo]], begin: int, alignment: int
    ) -> dict[str, TensorInfo]:
        """Offsets turned into places of the file: aligned, one tensor after the other, inside the file."""
        tensors: dict[str, TensorInfo] = {}
        at = 0
        for name, (place, info) in sorted(listed.items(), key=lambda item: item[1][1].begin):
            if info.begin % alignment:
                raise self.refuse(f"tensor {name!r} is not at a multiple of {alignment:,}", place)
            if info.begin != at:
                told = "overlaps the one before it" if info.begin < at else "leaves a hole in front of it"
                raise self.refuse(f"tensor {name!r} at offset {info.begin:,} {told}", place)
            if begin + info.end > self.size:
                told = f"ends at byte {begin + info.end:,}, the file at {self.size:,}: cut off"
                raise self.refuse(f"tensor {name!r} {told}", place)
            at = info.end + -info.end % alignment
            tensors[name] = TensorInfo(info.kind, info.shape, begin + info.begin, begin + info.end)
        return tensors
