"""The fixed files of a run's directory: what was asked for, what was chosen, and what makes it repeatable.

`recipe.toml` (resolved), `spec.json`, `tokenizer.json`, `facts.json`. The recipe is written last: a directory
without one holds no run, so one whose beginning was cut short can be begun again.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from cutaway import spec, store
from cutaway.data.tokenizer import Tokenizer, load_tokenizer
from cutaway.errors import FileFormatError, InputMissingError, OutputExistsError
from cutaway.spec.read import read_recipe
from cutaway.spec.write import write_model, write_recipe
from cutaway.train.choose import Choice
from cutaway.weights.run import list_checkpoints

RECIPE, SPEC, TOKENIZER, FACTS, METRICS = (
    "recipe.toml",
    "spec.json",
    "tokenizer.json",
    "facts.json",
    "metrics.jsonl",
)
RECIPE_DIGEST = "recipe"


@dataclass(frozen=True)
class Records:
    """What a run's directory says about it."""

    recipe: spec.Recipe
    facts: dict[str, object]
    tokenizer: Tokenizer
    choice: Choice
    edited: bool  # recipe.toml is not what the run began with


def write_records(
    out: Path, recipe: spec.Recipe, facts: dict[str, object], tokenizer: Tokenizer
) -> dict[str, object]:
    """Write the fixed files; returns the facts as written."""
    told = write_recipe(recipe).encode()
    facts = facts | {RECIPE_DIGEST: hashlib.sha256(told).hexdigest()}
    store.write_file(out / TOKENIZER, tokenizer.to_json().encode())
    store.write_file(out / SPEC, (json.dumps(write_model(recipe.model), indent=1) + "\n").encode())
    store.write_file(out / FACTS, (json.dumps(facts, indent=1) + "\n").encode())
    store.write_file(out / RECIPE, told)
    return facts


def read_records(out: Path) -> Records:
    """Read them back.

    Raises FileFormatError for a damaged file and for a tokenizer that is not the run's.
    """
    recipe = read_recipe(out / RECIPE)
    facts = _read_facts(out / FACTS)
    tokenizer = load_tokenizer(out / TOKENIZER)
    if tokenizer.digest != facts["tokenizer"]:
        raise FileFormatError(
            out / TOKENIZER, "not the tokenizer this run was begun with: restore it, or begin a new run"
        )
    choice = Choice(str(facts["precision"]), str(facts["compile"]), int(str(facts["threads"])))
    edited = hashlib.sha256((out / RECIPE).read_bytes()).hexdigest() != facts[RECIPE_DIGEST]
    return Records(recipe, facts, tokenizer, choice, edited)


def check_new(out: Path) -> None:
    """Raises OutputExistsError where a run began, or something is left of one."""
    if (out / RECIPE).exists() or (out / METRICS).exists() or list_checkpoints(out):
        raise OutputExistsError(f"{out}: holds a run already; go on with --resume or choose another --out")


def check_begun(out: Path) -> None:
    """Raises InputMissingError where no run began."""
    if not (out / RECIPE).is_file():
        raise InputMissingError(f"{out}: no run to go on with; check the path or train without --resume")


def _read_facts(path: Path) -> dict[str, object]:
    try:
        facts = json.loads(path.read_bytes())
        chosen = facts["precision"] in ("fp32", "bf16") and facts["compile"] in ("on", "off")
        if not chosen or type(facts["threads"]) is not int or facts["threads"] < 1:
            raise FileFormatError(path, "precision, compile and threads are not what a run writes there")
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
