"""`cutaway recipes list | table | run | verify`: published figures beside ours, and training them again."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from cutaway.app.options import Flag, option, parse
from cutaway.app.results import (
    Row,
    SeedResult,
    judge,
    read_expected,
    read_results,
    recipe_folder,
    summarise,
    training_curve,
    write_result,
)
from cutaway.app.train import with_local_data
from cutaway.errors import ConfigError, nearest
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE, find_recipe, shipped_recipes
from cutaway.spec.run import Text

COLUMNS = ("recipe", "published", "ours", "seeds", "spread", "seconds", "command", "commit", "source")
NUMBERS = {"published", "ours", "seeds", "spread", "seconds"}
PLAIN_WIDTH = 240  # where standard output is no terminal, a row is one line


@dataclass(frozen=True)
class List:
    """The names of the recipes and what each is."""

    json: Annotated[Flag, option(help="one JSON array")] = False


@dataclass(frozen=True)
class Table:
    """What is published beside what the committed seeds reached."""

    json: Annotated[Flag, option(help="one JSON array")] = False


@dataclass(frozen=True)
class Train:
    """Train a recipe with one seed."""

    name: tyro.conf.Positional[str]
    seed: Annotated[int, option(help="the seed")]
    data: Annotated[tuple[str, ...], option(help="texts in place of a download")] = ()
    out: Annotated[Path | None, option(help="folder of the run (runs/NAME-seed-K)")] = None
    json: Annotated[Flag, option(help="print the result as JSON and nothing else")] = False


@dataclass(frozen=True)
class Run(Train):
    """Train a recipe with one seed and write the result into its results/."""

    results: Annotated[Path | None, option(help="folder for seed-K.json (RECIPE/results)")] = None


@dataclass(frozen=True)
class Verify(Train):
    """Train a recipe again and say whether it agrees with the committed seeds (or end with 1)."""


def run(arguments: list[str]) -> int:
    """Runs the subcommand that the first argument names."""
    commands: dict[str, tuple[type, Callable]] = {
        "list": (List, show_list),
        "table": (Table, show_table),
        "run": (Run, run_seed),
        "verify": (Verify, verify_seed),
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        width = max(map(len, commands))
        print("usage: cutaway recipes SUBCOMMAND [options]\n")
        print("\n".join(f"  {name:{width}}  {record.__doc__}" for name, (record, _) in commands.items()))
        return 0 if arguments else ConfigError.exit_code
    name, *rest = arguments
    if name not in commands:
        raise ConfigError(f"recipes {name!r} unknown; {nearest(name, commands, most=1)}")
    record, act = commands[name]
    return act(parse(record, rest, f"cutaway recipes {name}"))


def show_list(options: List) -> int:
    found = {name: title(folder) for name, folder in shipped_recipes().items()}
    if options.json:
        print(json.dumps([{"name": name, "title": said} for name, said in found.items()]))
        return 0
    width = max(map(len, found), default=0)
    for name, said in found.items():
        print(f"{name:{width}}  {said}")
    return 0


def title(folder: Path) -> str:
    """The first line of a recipe's README, which says what it is."""
    readme = folder / "README.md"
    first = readme.read_text(encoding="utf-8").split("\n", 1)[0] if readme.is_file() else ""
    return first.lstrip("# ").removeprefix(f"{folder.name}: ")


def show_table(options: Table) -> int:
    rows = [summarise(folder) for folder in shipped_recipes().values()]
    print(json.dumps([asdict(row) for row in rows])) if options.json else print_rows(rows)
    return 0


def print_rows(rows: list[Row]) -> None:
    """The table for people."""
    from rich.console import Console
    from rich.table import Table as Grid

    grid = Grid(box=None, pad_edge=False)
    for name in COLUMNS:
        grid.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for row in rows:
        shown = asdict(row) | {"recipe": row.name, "seeds": str(row.seeds), "commit": row.commit or "–"}
        for name in ("published", "ours", "spread", "seconds"):
            digits = 0 if name == "seconds" else 4
            shown[name] = "–" if shown[name] is None else f"{shown[name]:.{digits}f}"
        grid.add_row(*(str(shown[name]) for name in COLUMNS))
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width, highlight=False, markup=False, emoji=False).print(grid)


def run_seed(options: Run) -> int:
    folder, result = train_seed(options)
    path = write_result(options.results or folder / "results", result)
    unit = read_expected(folder).unit
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        print(f"{result.value:.4f} {unit} in {result.seconds:.1f} s of training -> {path}")
    return 0


def verify_seed(options: Verify) -> int:
    expected, committed = (
        read_expected(recipe_folder(options.name)),
        read_results(recipe_folder(options.name)),
    )
    _, result = train_seed(options)
    verdict = judge(expected, committed, result.value)
    if options.json:
        print(json.dumps({"agrees": verdict.agrees, "said": verdict.said, "value": result.value}))
    else:
        print(verdict.said)
    return 0 if verdict.agrees else 1


def train_seed(options: Train) -> tuple[Path, SeedResult]:
    """Trains, and returns the recipe's folder and what came out. Evaluations are not in the seconds."""
    recipe = read_recipe(find_recipe(options.name))
    folder = recipe_folder(options.name)
    if not (folder / RECIPE).is_file():
        raise ConfigError(f"{options.name}: name a recipe or its folder, so that its expected.json is known")
    expected = read_expected(folder)
    recipe = replace(recipe, run=replace(recipe.run, seed=options.seed))
    if options.data:
        if not isinstance(recipe.data, Text):
            raise ConfigError(f"--data: {recipe.name} makes its own examples; leave the option out")
        recipe = replace(recipe, data=replace(recipe.data, source=options.data))
    from cutaway.app.outcome import sample
    from cutaway.app.progress import reporter
    from cutaway.train.progress import Silent
    from cutaway.train.runner import Runner

    out = options.out or Path("runs") / f"{recipe.name}-seed-{options.seed}"
    say = Silent() if options.json else reporter(recipe.run.steps)
    result = Runner(with_local_data(recipe), out, say=say, sampler=sample).train()
    if expected.measure not in result.figures:
        raise ConfigError(
            f"{folder}/expected.json: measure: {expected.measure} is no figure of this run; "
            f"{nearest(expected.measure, result.figures)}"
        )
    return folder, SeedResult(
        recipe=folder.name,
        seed=options.seed,
        value=result.figures[expected.measure],
        figures=result.figures,
        seconds=round(result.counters["seconds"], 2),
        tokens=int(result.counters["tokens"]),
        parameters=int(str(result.facts["parameters"])),
        command=f"cutaway recipes run {folder.name} --seed {options.seed}",
        commit=str(result.facts["commit"]) if result.facts.get("commit") else None,
        facts={name: str(result.facts[name]) for name in FACTS if name in result.facts},
        curve=training_curve(out),
    )


FACTS = ("cutaway", "torch", "python", "platform", "processor", "precision", "compile", "threads", "data")
