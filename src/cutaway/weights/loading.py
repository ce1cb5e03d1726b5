"""Whatever `cutaway.load` takes, read: a run, a checkpoint, a Hugging Face folder or hub id, one file."""

from dataclasses import dataclass
from pathlib import Path

import torch

from cutaway import spec
from cutaway.data.chat import read_template
from cutaway.data.tokenizer import Tokenizer
from cutaway.data.vocabularies import read_vocabulary
from cutaway.errors import ConfigError
from cutaway.models import AnyModel
from cutaway.weights.folder import read_folder
from cutaway.weights.hub import means_model
from cutaway.weights.run import check_vocabulary, read_run
from cutaway.weights.sentences import DEFAULT
from cutaway.weights.single_file import read_model, read_words, recognise


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode and all that came with it.

    `tokenizer` is None where the model reads no text, `length` where nobody knows how many positions it was
    trained with, `step` and `recipe` where it is of no run. `path` is what was asked for, `folder` where the
    weights lie; `notices` say what was not understood, `pool` how an encoder's vectors become one.
    """

    model: AnyModel
    tokenizer: Tokenizer | None
    length: int | None
    path: Path
    folder: Path
    step: int | None = None
    labels: tuple[str, ...] = ()
    template: str | None = None
    recipe: spec.Recipe | None = None
    notices: tuple[str, ...] = ()
    pool: str = DEFAULT


def read_any(
    path: str | Path,
    *,
    step: int | None = None,
    device: str | torch.device = "cpu",
    dtype: str | torch.dtype | None = None,
) -> Loaded:
    """The model that a path or hub id means; `step` chooses a checkpoint of a run.

    `dtype` is "fp32" or "bf16", None as saved, fp32 for one file. Raises InputMissingError where there is
    nothing of the kind, FileFormatError, naming file and rule, where it is damaged.
    """
    one_file = Path(path).is_file()
    if one_file or means_model(path):
        if step is not None:
            raise ConfigError(f"{path} is no run: leave out step {step}")
        return load_file(Path(path), device, dtype) if one_file else load_folder(path, device, dtype)
    found = read_run(path, step=step, device=device, dtype=dtype)
    return Loaded(
        found.model,
        found.tokenizer,
        found.recipe.run.length,
        Path(path),
        found.folder,
        found.step,
        found.labels,
        read_template(found.run),
        found.recipe,
    )


def load_file(path: Path, device: str | torch.device, dtype: str | torch.dtype | None) -> Loaded:
    """The model of a GGUF or llama2.c file."""
    header = recognise(path)
    found = read_model(header, device=device, dtype=dtype)
    tokenizer, template = read_words(header)
    check_vocabulary(path, tokenizer, found.plan)
    return Loaded(found.model, tokenizer, found.length, path, path, labels=found.labels, template=template)


def load_folder(path: str | Path, device: str | torch.device, dtype: str | torch.dtype | None) -> Loaded:
    """The model of a Hugging Face folder or hub id; one of images has no tokenizer."""
    found = read_folder(path, device=device, dtype=dtype)
    tokenizer = template = None
    if found.length is not None:
        tokenizer, template = read_vocabulary(found.path), read_template(found.path)
        check_vocabulary(found.path, tokenizer, found.plan)
    return Loaded(
        found.model,
        tokenizer,
        found.length,
        found.path,
        found.path,
        labels=found.labels,
        template=template,
        notices=found.notices,
        pool=found.pool,
    )
