"""Weights in several safetensors files: an index says which tensor lies in which.

{"metadata": {"total_size": 100}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
"""

import os
from pathlib import Path

from torch import Tensor

from cutaway.errors import FileFormatError
from cutaway.store import read_object
from cutaway.weights.safe import Header, named, read_header, read_tensors

MOST_INDEX = 100_000_000
MOST_SHARDS = 4_096
DEPTH = 8  # of what a model's authors wrote under "metadata"
ENDING = ".safetensors"


def read_shards(path: str | Path) -> dict[str, Tensor]:
    """The tensors of all files that an index names, mapped, after each was checked.

    Raises FileFormatError where the index is no index, names a file outside its folder, or where a file does
    not hold exactly the tensors it should; InputMissingError where a file is missing.
    """
    headers = read_shard_headers(path)
    return {name: tensor for file in headers for name, tensor in read_tensors(file).items()}


def read_shard_headers(path: str | Path) -> dict[Path, Header]:
    """The header of each file that an index names, checked against it and against one another."""
    path = Path(path)
    weight_map = read_index(path)
    headers: dict[Path, Header] = {}
    for shard in sorted(set(weight_map.values())):
        file = inside(path, shard)
        headers[file] = header = read_header(file)
        listed = {name for name, where in weight_map.items() if where == shard}
        for name in sorted(listed - header.tensors.keys())[:1]:
            raise FileFormatError(file, f"{named(name)} missing, but {path.name} says it is here")
        for name in sorted(header.tensors.keys() - listed)[:1]:
            raise FileFormatError(file, f"{named(name)} is not listed for it in {path.name}")
    return headers


def read_index(path: Path) -> dict[str, str]:
    """Which file holds which tensor, as an index says; each is a plain file name."""
    table = read_object(path, MOST_INDEX, DEPTH)
    if not isinstance(weight_map := table.get("weight_map"), dict):
        raise FileFormatError(path, "has no weight_map; an index of safetensors files has one")
    for key in table.keys() - {"weight_map", "metadata"}:
        raise FileFormatError(path, f"unknown key {key[:80]!r}; an index has metadata and weight_map")
    if not weight_map:
        raise FileFormatError(path, "weight_map is empty; the index is damaged")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or not is_plain(shard):
            raise FileFormatError(
                path,
                f"{named(name)} is in {str(shard)[:80]!r}; expected a NAME{ENDING} of this folder",
            )
    if len(set(weight_map.values())) > MOST_SHARDS:
        raise FileFormatError(path, f"names more than {MOST_SHARDS:,} files")
    return weight_map


def is_plain(name: str) -> bool:
    """Whether a name is that of a safetensors file in the same folder, and nothing else."""
    return (
        name.endswith(ENDING)
        and len(name.encode()) <= 255
        and not set(name) & set("/\\:\0")
        and not name.startswith((".", "~"))
    )


def inside(index: Path, shard: str) -> Path:
    """The file of a shard; FileFormatError where it is a link out of the folder.

    The hub's cache is such a link on purpose: `models--NAME/snapshots/REVISION/FILE` to `models--NAME/blobs`.
    """
    folder = index.parent.resolve()
    file = index.parent / shard
    real = Path(os.path.realpath(file))
    cache = folder.parent.parent if folder.parent.name == "snapshots" else None
    if real.parent != folder and not (cache and real.parent == cache / "blobs"):
        raise FileFormatError(file, "a link out of its folder; put the file itself there")
    return file
