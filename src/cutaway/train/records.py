"""The fixed files of a run's directory: what was asked for, what was chosen, and what makes it repeatable.

`recipe.toml` (resolved), `spec.json`, `tokenizer.json`, `facts.json`; of a run that fine-tunes also the chat
template and the weights that stand still. The recipe is written last: a directory without one holds no run.
One without metrics and checkpoints has lost nothing yet, and can be begun again.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from cutaway import spec, store
from cutaway.data.chat import TEMPLATE, read_template
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, OutputExistsError
from cutaway.spec.read import read_recipe
from cutaway.spec.write import write_model, write_recipe, write_record
from cutaway.train.choose import Choice
from cutaway.weights.run import (
    FROZEN,
    WEIGHTS,
    list_checkpoints,
    own_tokenizer,
    step_of,
    whole_checkpoint,
)
from cutaway.weights.safe import put_tensors

RECIPE, SPEC, TOKENIZER, FACTS, METRICS = (
    "recipe.toml",
    "spec.json",
    "tokenizer.json",
    "facts.json",
    "metrics.jsonl",
)
RECIPE_DIGEST = "recipe"
CHOSEN = ("precision", "compile", "threads", "device")
SETTLED = (*CHOSEN, "seed", "optimizer.kind")  # a run that has begun cannot change them in recipe.toml either


@dataclass(frozen=True)
class Records:
    """What a run's directory says about it."""

    recipe: spec.Recipe
    facts: dict[str, object]
    tokenizer: Tokenizer
    template: str | None  # of chats
    choice: Choice
    edited: bool  # recipe.toml is not what the run began with


def write_records(
    out: Path,
    recipe: spec.Recipe,
    facts: dict[str, object],
    tokenizer: Tokenizer,
    template: str | None = None,
    frozen: Mapping[str, Tensor] | None = None,
) -> dict[str, object]:
    """Write the fixed files, the chat template and the weights that stand still among them where there are
    any: all or, where that fails, none. Returns the facts as written.
    """
    assert recipe.model is not None
    told = write_recipe(recipe).encode()
    facts = facts | {RECIPE_DIGEST: hashlib.sha256(told).hexdigest()}
    _clear(out)  # what a beginning before this one left
    try:
        if frozen:
            need = sum(tensor.numel() * tensor.element_size() for tensor in frozen.values())
            store.write_folder(out / FROZEN, lambda beside: fill_frozen(beside, frozen), need=need)
        if template is not None:
            store.write_file(out / TEMPLATE, template.encode())
        store.write_file(out / TOKENIZER, tokenizer.to_json().encode())
        store.write_file(out / SPEC, (json.dumps(write_model(recipe.model), indent=1) + "\n").encode())
        store.write_file(out / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
        store.write_file(out / RECIPE, told)
    except BaseException:
        _clear(out)
        raise
    return facts


def _clear(out: Path) -> None:
    for name in (RECIPE, FACTS, SPEC, TOKENIZER, TEMPLATE):
        (out / name).unlink(missing_ok=True)
    shutil.rmtree(out / FROZEN, ignore_errors=True)


def fill_frozen(folder: Path, frozen: Mapping[str, Tensor]) -> None:
    """Write the weights that stand still."""
    with open(folder / WEIGHTS, "xb") as file:
        put_tensors(file, frozen)


def read_records(out: Path) -> Records:
    """Read them back.

    Raises FileFormatError for a damaged file and for a tokenizer that is not the run's.
    """
    recipe = read_recipe(out / RECIPE)
    facts = _read_facts(out / FACTS)
    tokenizer = own_tokenizer(out)
    template = read_template(out)
    precision, compiled, threads, device = (facts[key] for key in CHOSEN)
    choice = Choice(str(precision), str(compiled), int(str(threads)), str(device))
    edited = hashlib.sha256((out / RECIPE).read_bytes()).hexdigest() != facts[RECIPE_DIGEST]
    return Records(recipe, facts, tokenizer, template, choice, edited)


def is_new(out: Path) -> bool:
    """Whether no step has been taken there yet."""
    return not (out / METRICS).exists() and not list_checkpoints(out)


def is_finished(out: Path) -> bool:
    """Whether the newest checkpoint is whole, and its weights were judged, which is the last that a run does.

    Raises FileFormatError where there are checkpoints, all damaged.
    """
    folder, damaged = whole_checkpoint(out)
    if folder is None or damaged:
        return False
    try:
        lines = [json.loads(line) for line in store.read_lines(out / METRICS)]
        return any("validation" in line for line in lines if line["step"] == step_of(folder))
    except (ValueError, TypeError, KeyError):
        return False


def check_new(out: Path) -> None:
    """Raises OutputExistsError where a run has taken steps, something is left of one, or somebody's recipe
    stands.
    """
    if is_new(out):
        if (out / RECIPE).exists() and not _begun_here(out):
            raise OutputExistsError(f"{out}: holds a {RECIPE} that no run wrote there; choose another --out")
        return
    if (out / RECIPE).is_file():
        on = f"go on with `cutaway train --resume --out {out}`, after a change to its {RECIPE} if you like"
        raise OutputExistsError(f"{out}: holds a run already; {on}, or choose another --out")
    raise OutputExistsError(f"{out}: holds what is left of a run, without {RECIPE}; choose another --out")


def _begun_here(out: Path) -> bool:
    """Whether recipe.toml is, to the byte, what a run wrote there as it began."""
    try:
        told = json.loads((out / FACTS).read_bytes())[RECIPE_DIGEST]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return told == hashlib.sha256((out / RECIPE).read_bytes()).hexdigest()


def check_begun(out: Path) -> None:
    """Raises InputMissingError where no run began."""
    if not (out / RECIPE).is_file():
        raise InputMissingError(f"{out}: no run to go on with; check the path or train without --resume")


def check_asked(out: Path, stored: spec.Recipe, asked: spec.Recipe, remedy: str = "") -> None:
    """Raises ConfigError where what is asked of a run that goes on is not what it was begun with; `remedy`
    stands for that of options.

    Of the models' vocabularies nothing is said: those follow from the data.
    """
    if asked.model is None and stored.model is not None:  # that of the start, which the run has long taken
        asked = replace(asked, model=with_head(stored.model, asked.head), head=None)
    before, now = (dict(plain_values(write_record(recipe))) for recipe in (stored, asked))
    for path in dict.fromkeys((*before, *now)):
        old, new = before.get(path, "none"), now.get(path, "none")
        if old != new and not (path.startswith("model.") and path.endswith(".vocab")):
            settled = not path.startswith(("run.", "data.source")) or path.removeprefix("run.") in SETTLED
            change = "" if settled else "change that file, "
            remedy = remedy or f"leave the option out, {change}or begin a new run with another --out"
            told = f"{out / RECIPE}: {path}: {old} in this run, {new} asked for"
            raise ConfigError(f"{told}: a run goes on as it was begun; {remedy}")


def with_head(model: spec.Model, head: spec.Head | None) -> spec.Model:
    """The model with another head, if one is given; of as many classes as it has."""
    if head is None or not isinstance(model, spec.Single):
        return model
    if isinstance(head, spec.Classify) and isinstance(model.head, spec.Classify):
        head = replace(head, classes=model.head.classes)
    return replace(model, head=head)


def plain_values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain value inside tables and lists, with its path."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from plain_values(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from plain_values(item, f"{path}[{index}]")
    else:
        yield path, value


def _read_facts(path: Path) -> dict[str, object]:
    try:
        facts = json.loads(path.read_bytes())
        chosen = facts["precision"] in ("fp32", "bf16") and facts["compile"] in ("on", "off")
        chosen = chosen and facts.setdefault("device", "cpu") in ("cpu", "cuda")  # older runs knew no other
        if not chosen or type(facts["threads"]) is not int or facts["threads"] < 1:
            raise FileFormatError(path, "precision, compile, threads, device are not what a run writes there")
        for key in ("data", "tokenizer", RECIPE_DIGEST, "parameters"):
            facts[key]
        return facts
    except (OSError, ValueError, TypeError) as problem:
        raise FileFormatError(path, f"not readable ({problem}): restore it, or begin a new run") from None
    except KeyError as missing:
        raise FileFormatError(path, f"{missing} is missing: restore it, or begin a new run") from None


def keep_metrics(out: Path, done: int) -> tuple[set[str], int]:
    """Cut the metrics back to the steps of a checkpoint.

    Returns the names of the figures written at step `done`, and how many lines were unreadable and are gone.
    """
    names: set[str] = set()
    lost = 0

    def keep(line: str) -> bool:
        nonlocal lost
        try:
            figures = json.loads(line)
            step = figures["step"]
            if step == done:
                names.update(figures)
            return step <= done
        except (ValueError, TypeError, KeyError):
            lost += 1
            return False

    store.keep_lines(out / METRICS, keep)
    return names, lost
