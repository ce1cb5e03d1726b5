"""A Hugging Face folder, or hub id, read into a model: config.json, safetensors in one file or several.

The model is made on the meta device, held against the file's header, and given the mapped tensors: what a
model of N bytes costs is N bytes of file cache (what lies turned in the file, or changes its type, is
copied). Nothing here imports what a file names, and a path that is there is never looked up anywhere else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from cutaway import spec
from cutaway.errors import ConfigError, FileFormatError, InputMissingError
from cutaway.models import AnyModel, build
from cutaway.weights.config import Table, read_config
from cutaway.weights.families import family_of
from cutaway.weights.hub import local_folder
from cutaway.weights.keys import read_keys
from cutaway.weights.pickled import refuse_pickled_folder
from cutaway.weights.run import as_dtype
from cutaway.weights.safe import read_tensors
from cutaway.weights.sentences import DEFAULT, read_length, read_pool
from cutaway.weights.shards import read_shards

CONFIG = "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Pretrained:
    """A model as its files have it, in evaluation mode.

    `length` is how many positions it was made for, None where it reads no tokens; `labels` name its classes;
    `pool` is how an encoder's vectors become one.
    `notices` say what of its config was not understood and which tensors were left out.
    """

    model: AnyModel
    length: int | None = None
    labels: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    path: Path = Path()
    pool: str = DEFAULT

    @property
    def plan(self) -> spec.Model:
        """What the model is, as data."""
        return self.model.plan


def read_folder(
    path: str | Path, *, device: str | torch.device = "cpu", dtype: str | torch.dtype | None = None
) -> Pretrained:
    """The model of a Hugging Face folder or hub id.

    `dtype` is what the weights are turned into; None keeps what the file has, the widest of several. Raises
    InputMissingError where there is nothing to read, FileFormatError naming the file and what is wrong.
    """
    kind = as_dtype(dtype)
    folder = local_folder(path)
    table = read_config(folder / CONFIG)
    file, tensors = folder_tensors(folder)
    found = assemble(table, tensors, file, device=device, dtype=kind, folder=folder)
    if found.length is None:
        return found
    return replace(found, length=read_length(folder, found.length), pool=read_pool(folder))


def folder_tensors(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The weights of a folder, mapped, and the file that errors about them name."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS, read_tensors(folder / WEIGHTS)
    if (folder / INDEX).is_file():
        return folder / INDEX, read_shards(folder / INDEX)
    refuse_pickled_folder(folder)
    raise InputMissingError(f"{folder}: has neither {WEIGHTS} nor {INDEX}; fetch the weights too")


def assemble(
    table: Table,
    tensors: Mapping[str, Tensor],
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    folder: Path = Path(),
) -> Pretrained:
    """The model that a config and tensors of the same layout are; `path` is the file that errors name.

    Raises FileFormatError where they do not fit together.
    """
    family = family_of(table)
    config = family.read(table, tensors)
    unknown = table.unknown(family.harmless)
    try:
        model = build(config.plan, device="meta")
    except (ConfigError, RuntimeError) as problem:
        raise FileFormatError(table.path, f"describes no model: {problem}") from None
    found, left = read_keys(family.keys(config.plan), dict(model.named_parameters()), tensors, path)
    model.load_state_dict(found, strict=False, assign=True)
    model = model.eval().to(device=device, dtype=dtype or widest(found))
    notices = [f"{table.path}: {key[:80]} is unknown and changes nothing" for key in unknown]
    notices += [f"{path}: {name} is left out, this model has no use for it" for name in left]
    return Pretrained(model, config.length, config.labels, tuple(notices), folder)


def widest(tensors: Mapping[str, Tensor]) -> torch.dtype:
    """The floating-point type that holds those of all tensors."""
    return reduce(torch.promote_types, {tensor.dtype for tensor in tensors.values()})
