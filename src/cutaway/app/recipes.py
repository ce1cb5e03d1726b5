"""`cutaway recipes list | table | run | verify`: published figures beside ours, and training them again."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cutaway.app.options import Flag, option, parse
from cutaway.app.results import (
    Row,
    SeedResult,
    check_judgeable,
    judge,
    read_expected,
    read_results,
    recipe_folder,
    summarise,
    training_curve,
    write_result,
)
from cutaway.errors import ConfigError, OutputExistsError, nearest
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE, find_recipe, shipped_recipes
from cutaway.spec.run import Recipe, Text

if TYPE_CHECKING:
    from cutaway.train.progress import Reporter
    from cutaway.train.runner import Result

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
    plan = fetched(ask(options))
    results = options.results or plan.folder / "results"
    command = f"cutaway recipes run {plan.folder.name} --seed {options.seed}"
    if not check_text(plan, results, "leave --data out, or name another folder by --results"):
        command += f" --data {shlex.join(plan.texts)}"
    run, result = train_seed(plan, command)
    path = write_result(results, result)
    report = write_page(plan, run)
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        unit = read_expected(plan.folder).unit
        print(f"{result.value:.4f} {unit} in {result.seconds:.1f} s of training -> {path}\nreport: {report}")
    return 0


def verify_seed(options: Verify) -> int:
    plan = ask(options)
    expected, committed = read_expected(plan.folder), read_results(plan.folder)
    check_judgeable(expected, committed)
    if plan.texts and not committed:
        raise ConfigError(
            "--data: what is published is not of this text, and no seed is; leave the option out"
        )
    plan = fetched(plan)
    check_text(plan, plan.folder / "results", "leave --data out")
    run, result = train_seed(plan, "")
    verdict, report = judge(expected, committed, result.value), write_page(plan, run)
    if options.json:
        print(json.dumps({"agrees": verdict.agrees, "said": verdict.said, "value": result.value}))
    else:
        print(f"{verdict.said}\nreport: {report}")
    return 0 if verdict.agrees else 1


@dataclass(frozen=True)
class Plan:
    """What will be trained: `texts` are those of --data, none where they are the recipe's own after all."""

    folder: Path
    recipe: Recipe
    out: Path
    texts: tuple[str, ...]
    say: "Reporter"


def ask(options: Train) -> Plan:
    """What the options mean.

    Raises ConfigError where they do not fit, OutputExistsError where a run is in the way.
    """
    from cutaway.app.progress import reporter
    from cutaway.data.download import keep_copy
    from cutaway.train.progress import Silent
    from cutaway.train.records import check_new

    recipe = read_recipe(find_recipe(options.name))
    folder = recipe_folder(options.name)
    if not (folder / RECIPE).is_file():
        raise ConfigError(f"{options.name}: name a recipe or its folder, so that its expected.json is known")
    recipe = replace(recipe, run=replace(recipe.run, seed=options.seed))
    texts = options.data
    if texts:
        if not isinstance(recipe.data, Text):
            raise ConfigError(f"--data: {recipe.name} makes its own examples; leave the option out")
        source = recipe.data.source
        if texts == source or (len(texts) == len(source) == 1 and keep_copy(source[0], texts[0])):
            texts = ()
        else:
            recipe = replace(recipe, data=replace(recipe.data, source=texts))
    out = options.out or Path("runs") / f"{recipe.name}-seed-{options.seed}"
    try:
        check_new(out)
    except OutputExistsError:
        raise OutputExistsError(f"{out}: holds a run already; choose another --out or delete it") from None
    say = Silent() if options.json else reporter(recipe.run.steps)
    return Plan(folder, recipe, out, texts, say)


def fetched(plan: Plan) -> Plan:
    """The same with a public text on this machine."""
    from cutaway.data.download import with_local_data

    return replace(plan, recipe=with_local_data(plan.recipe))


def check_text(plan: Plan, results: Path, remedy: str) -> bool:
    """Whether the text is the recipe's own; ConfigError where the seeds in `results` learned another.

    Only a text that was named is looked at: `stdlib:` differs a little from one Python to the next.
    """
    seeds = [seed for seed in read_results(plan.folder, results) if "data" in seed.facts]
    others = [seed for seed in seeds if "--data" in seed.command]
    if not plan.texts and not others:
        return True
    from cutaway.train.task import make_task

    digest = make_task(plan.recipe.data, plan.recipe.run).digest
    if seeds and digest not in {seed.facts["data"] for seed in seeds}:
        said = f"--data {shlex.join(plan.texts)}" if plan.texts else plan.folder.name
        remedy = remedy if plan.texts else "give the --data that their commands name"
        raise ConfigError(f"{said}: not the text that the seeds in {results} were trained on; {remedy}")
    return not plan.texts or digest in {seed.facts["data"] for seed in seeds if seed not in others}


def write_page(plan: Plan, run: "Result") -> str:
    """Writes report.html into a finished run's folder, as `cutaway train` does, and says where it is."""
    from cutaway.app.outcome import conclude

    return conclude(plan.recipe, run, plan.say).report


def train_seed(plan: Plan, command: str) -> tuple["Result", SeedResult]:
    """Trains, and returns the run and what came out. Evaluations are not in the seconds."""
    from cutaway.app.outcome import sample
    from cutaway.train.runner import Runner

    folder, recipe = plan.folder, plan.recipe
    expected = read_expected(folder)
    result = Runner(recipe, plan.out, say=plan.say, sampler=sample).train()
    if expected.measure not in result.figures:
        raise ConfigError(
            f"{folder}/expected.json: measure: {expected.measure} is no figure of this run; "
            f"{nearest(expected.measure, result.figures)}"
        )
    return result, SeedResult(
        recipe=folder.name,
        seed=recipe.run.seed,
        value=result.figures[expected.measure],
        figures=result.figures,
        seconds=round(result.counters["seconds"], 2),
        tokens=int(result.counters["tokens"]),
        parameters=int(str(result.facts["parameters"])),
        command=command,
        commit=str(result.facts["commit"]) if result.facts.get("commit") else None,
        facts={name: str(result.facts[name]) for name in FACTS if result.facts.get(name) is not None},
        curve=training_curve(plan.out),
    )


FACTS = (
    *("cutaway", "torch", "python", "platform", "processor", "device", "gpu"),
    *("precision", "compile", "threads", "data"),
)
