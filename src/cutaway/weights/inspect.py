"""What a file or folder of weights holds: names, dtypes, shapes, bytes, metadata. No weight is ever read."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cutaway.errors import CutawayError, FileFormatError, InputMissingError
from cutaway.spec.read import read_table
from cutaway.weights.config import Table, read_config
from cutaway.weights.families import family_of
from cutaway.weights.folder import CONFIG, INDEX, WEIGHTS, assemble
from cutaway.weights.gguf import Gguf, hugging_face, read_gguf
from cutaway.weights.llama2c import Llama2c, read_llama2c
from cutaway.weights.pickled import check_not_pickled, refuse_pickled_folder
from cutaway.weights.run import NAME, list_checkpoints, step_of
from cutaway.weights.safe import DTYPES, Header, read_header
from cutaway.weights.shards import read_shard_headers
from cutaway.weights.single_file import beginning, is_gguf

SHOWN = 8  # of the items of a list
JSON_NUMBERS = 2**53  # beyond, other readers of JSON round


@dataclass(frozen=True)
class Entry:
    """One tensor: where it is, what it is, how many numbers and how many bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    elements: int
    bytes: int
    file: str


@dataclass(frozen=True)
class Total:
    """What tensors of a dtype, or all, are together."""

    tensors: int
    elements: int
    bytes: int


@dataclass(frozen=True)
class Description:
    """What is in a file or folder; `notes` say what Cutaway does not know, or would refuse."""

    path: str
    format: str
    tensors: tuple[Entry, ...]
    metadata: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @property
    def total(self) -> Total:
        return total(self.tensors)

    @property
    def dtypes(self) -> dict[str, Total]:
        """The total of each dtype, the one with the most bytes first."""
        names = dict.fromkeys(entry.dtype for entry in self.tensors)
        found = {name: total(entry for entry in self.tensors if entry.dtype == name) for name in names}
        return dict(sorted(found.items(), key=lambda item: -item[1].bytes))

    def table(self) -> dict[str, Any]:
        """All of it as what JSON can hold."""
        dtypes = {name: asdict(found) for name, found in self.dtypes.items()}
        return {
            "path": self.path,
            "format": self.format,
            "total": asdict(self.total),
            "dtypes": dtypes,
            "metadata": dict(self.metadata),
            "notes": list(self.notes),
            "tensors": [asdict(entry) for entry in self.tensors],
        }


def total(entries: Any) -> Total:
    """The total of tensors."""
    listed = list(entries)
    return Total(len(listed), sum(e.elements for e in listed), sum(e.bytes for e in listed))


def inspect(path: str | Path) -> Description:
    """What a safetensors, GGUF or llama2.c file, an index of shards, a Hugging Face folder or a run holds.

    Raises InputMissingError where there is nothing of the kind, FileFormatError where it breaks its format's
    rules or is pickled.
    """
    path = Path(path)
    if path.is_dir():
        return inspect_folder(path)
    if path.name.endswith(".index.json"):
        return described(path, read_shard_headers(path), {})
    return inspect_file(path)


def inspect_file(path: Path) -> Description:
    """`inspect` of a single file, known by its first bytes, its name and its size."""
    first = beginning(path)
    if is_gguf(path, first):
        return describe_gguf(read_gguf(path))
    if first[8:] == b"{" or path.suffix == ".safetensors":
        return described(path, {path: read_header(path)}, {})
    if path.suffix == ".bin":
        try:
            return describe_llama2c(read_llama2c(path))
        except FileFormatError:
            check_not_pickled(path, first)
            raise
    check_not_pickled(path, first)
    raise FileFormatError(path, "neither safetensors, GGUF nor llama2.c; give one, a folder or a run", 0)


def inspect_folder(path: Path) -> Description:
    """`inspect` of a run, a checkpoint in it, or a Hugging Face folder."""
    if (path / "spec.json").is_file():
        steps = list_checkpoints(path)
        if not steps:
            raise InputMissingError(f"{path}: no checkpoint yet; train for longer, or save more often")
        return describe_checkpoint(path, steps[-1])
    if NAME.fullmatch(path.resolve().name) and (path.resolve().parents[1] / "spec.json").is_file():
        return describe_checkpoint(path.resolve().parents[1], path)
    if not (path / WEIGHTS).is_file() and (path / INDEX).is_file():
        headers = read_shard_headers(path / INDEX)
        return described(path, headers, *judged(path, headers))
    files = sorted(path.glob("*.safetensors"))
    if not files:
        refuse_pickled_folder(path)
        raise InputMissingError(
            f"{path}: neither a run nor safetensors; give the file itself, or another path"
        )
    if path / WEIGHTS in files:
        files = [path / WEIGHTS]
    headers = {file: read_header(file) for file in files}
    return described(path, headers, *judged(path, headers))


def described(
    path: Path, headers: Mapping[Path, Header], config: Mapping[str, Any], notes: tuple[str, ...] = ()
) -> Description:
    """What safetensors files hold together, with the metadata of each and what a config.json says."""
    entries = tuple(entry for file, header in headers.items() for entry in entries_of(header, file.name))
    metadata = {key: value for header in headers.values() for key, value in header.metadata.items()}
    kind = "safetensors" if len(headers) == 1 else f"safetensors in {len(headers)} files"
    if path.is_dir():
        kind = f"Hugging Face folder, {kind}" if config else f"folder, {kind}"
    return Description(str(path), kind, entries, {**metadata, **config}, notes)


def describe_checkpoint(run: Path, folder: Path) -> Description:
    """What a run's checkpoint holds; its metadata are the run's spec."""
    header = read_header(folder / "model.safetensors")
    spec = read_table(run / "spec.json")
    metadata = {"step": step_of(folder), "checkpoints": len(list_checkpoints(run)), "spec": spec}
    entries = tuple(entries_of(header, f"{folder.name}/model.safetensors"))
    return Description(str(run), "Cutaway run", entries, metadata)


def entries_of(header: Header, file: str) -> Iterator[Entry]:
    for name, info in header.tensors.items():
        yield Entry(name, info.dtype, info.shape, math.prod(info.shape), info.end - info.begin, file)


def describe_gguf(found: Gguf) -> Description:
    """What a GGUF file holds, and whether it is a model that can be built."""
    entries = tuple(
        Entry(name, info.kind.name, info.shape, math.prod(info.shape), info.end - info.begin, found.path.name)
        for name, info in found.tensors.items()
    )
    metadata = {key: plain(value) for key, value in found.metadata.items()}
    notes: tuple[str, ...] = ()
    try:
        table = Table(hugging_face(found)[0], found.path)
        family_of(table).read(table, {})
    except CutawayError as refused:
        notes = (f"cannot be loaded: {str(refused).removeprefix(f'{found.path}: ')}",)
    return Description(str(found.path), f"GGUF version {found.version}", entries, metadata, notes)


def describe_llama2c(found: Llama2c) -> Description:
    """What a llama2.c file holds: its arrays, each of all layers."""
    entries = tuple(
        Entry(name, "F32", shape, math.prod(shape), 4 * math.prod(shape), found.path.name)
        for name, shape in found.shapes()
    )
    names = ("width", "hidden", "layers", "heads", "kv_heads", "vocab", "length")
    metadata = dict(zip(names, found.numbers(), strict=True)) | {"tied": found.tied}
    return Description(str(found.path), "llama2.c", entries, metadata)


def judged(path: Path, headers: Mapping[Path, Header]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What a folder's config.json says, and what loading it with tensors of these shapes would remark."""
    if not (path / CONFIG).is_file():
        return {}, (f"{CONFIG} is missing: the folder cannot be loaded",)
    table = read_config(path / CONFIG)
    tensors = {
        name: torch.empty(info.shape, dtype=DTYPES[info.dtype], device="meta")
        for header in headers.values()
        for name, info in header.tensors.items()
    }
    try:
        return dict(table.values), assemble(table, tensors, path, device="meta").notices
    except CutawayError as refused:
        return dict(table.values), (f"cannot be loaded: {refused}",)


def plain(value: Any) -> Any:
    """A value of GGUF's metadata as JSON can hold it: of a list its length and its first items."""
    if isinstance(value, tuple | np.ndarray):
        first = [
            plain(item)
            for item in (value[:SHOWN].tolist() if isinstance(value, np.ndarray) else value[:SHOWN])
        ]
        return {"length": len(value), "first": first}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if type(value) is int and abs(value) > JSON_NUMBERS:
        return str(value)
    return value
