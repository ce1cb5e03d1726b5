"""`cutaway recipes list | table | run | verify`: published figures beside ours, and training them again."""

import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, TypeVar

import tyro

from cutaway.app.options import Flag, option, parse
from cutaway.app.results import (
    Row,
    check_judgeable,
    file_name,
    judge,
    read_expected,
    read_results,
    summarise,
    write_result,
)
from cutaway.app.seeds import ask, check_text, is_of_run, ready, train_seed, write_page
from cutaway.app.train import check_there
from cutaway.errors import ConfigError, CutawayError, OutputExistsError, nearest
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE, find_recipe, shipped_groups, shipped_recipes
from cutaway.spec.run import Recipe

NUMBERS = ("published", "ours", "seeds", "spread", "interval", "seconds")
COLUMNS = ("recipe", *NUMBERS, "command", "commit", "source")
NAMES = "a recipe or a group of them: what `recipes list` has, or the part before its /"
PLAIN_WIDTH = 1_000  # where standard output is no terminal, a row is one line


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
    """Train a recipe, or those of a group in turn, with one seed."""

    name: Annotated[tyro.conf.Positional[str], option(help=NAMES)]
    seed: Annotated[int, option(help="the seed")]
    data: Annotated[tuple[str, ...], option(help="texts, or a folder, in place of a download")] = ()
    start: Annotated[
        str,
        option(help="what it begins with in place of its own; of a group, all that begin with a run"),
    ] = ""
    out: Annotated[
        Path | None,
        option(help="folder of the run (runs/NAME-seed-K), of a group that of its NAME-seed-K (runs/GROUP)"),
    ] = None
    json: Annotated[Flag, option(help="print the result as JSON and nothing else")] = False


@dataclass(frozen=True)
class Run(Train):
    """Train a recipe, or those of a group in turn, with one seed, or go on; write what comes out."""

    results: Annotated[
        Path | None, option(help="folder for seed-K.json (RECIPE/results), of a group for NAME/seed-K.json")
    ] = None


@dataclass(frozen=True)
class Verify(Train):
    """Train a recipe or a group again and say whether it agrees with the committed seeds (or end with 1)."""


Asked = TypeVar("Asked", bound=Train)


def run(arguments: list[str]) -> int:
    """Runs the subcommand that the first argument names."""
    commands: dict[str, tuple[type, Callable]] = {
        "list": (List, show_list),
        "table": (Table, show_table),
        "run": (Run, lambda options: in_turn(options, run_one)),
        "verify": (Verify, lambda options: in_turn(options, verify_one)),
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
    """The first line of a recipe's README, or where its group has the README of recipe.toml: what it is."""
    readme = folder / "README.md"
    told = readme if readme.is_file() else folder / RECIPE
    first = told.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.lstrip("# ").removeprefix(f"{folder.name}: ")


def show_table(options: Table) -> int:
    rows = [summarise(folder, name) for name, folder in shipped_recipes().items()]
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
        for name in set(NUMBERS) - {"seeds"}:
            digits = 0 if name == "seconds" else 4
            shown[name] = "–" if shown[name] is None else f"{shown[name]:.{digits}f}"
        grid.add_row(*(str(shown[name]) for name in COLUMNS))
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(width=width, highlight=False, markup=False, emoji=False).print(grid)


def in_turn(options: Asked, act: Callable[[Asked], int]) -> int:
    """Does it to one recipe, or to every member of a group; returns the exit code: of a group the first
    error's, without one 1 if a member differs. A member that ends with an error of ours costs those that
    begin with its run, a signal or a bug all that are left, a recipe that cannot be read the whole. A given
    start stands for the run of the one member that others begin with, which is left out.
    """
    from cutaway.train.signals import RunInterruptedError

    members = shipped_groups().get(options.name)
    if members is None:
        return act(options)
    recipes = {Path(name).name: read_recipe(find_recipe(name)) for name in members}
    if options.start:
        left = stood_for(options, recipes)
        members = tuple(name for name in members if Path(name).name != left)
    codes: dict[str, int] = {}  # of those that failed, by folder
    differing = 0
    for leaf, member in ((Path(name).name, of_member(options, name)) for name in members):
        try:
            if (start := recipes[leaf].start) in codes:
                print(f"cutaway: {member.name}: left out, as it begins with {start}", file=sys.stderr)
                codes[leaf] = codes[start]
            else:
                differing = act(member if start else replace(member, start="")) or differing
        except RunInterruptedError:
            raise
        except CutawayError as error:
            print(f"cutaway: {member.name}: {error}", file=sys.stderr)
            codes[leaf] = error.exit_code
    return next(iter(codes.values()), differing)


def stood_for(options: Train, recipes: dict[str, Recipe]) -> str:
    """The one member of a group that others begin with, for whose run the given start stands.

    Raises ConfigError where there is none or more than one, InputMissingError where the start is not there.
    """
    beginners = [leaf for leaf, recipe in recipes.items() if recipe.start]
    begun = sorted({recipes[leaf].start for leaf in beginners})
    if not begun:
        raise ConfigError(f"--start: no member of {options.name} begins with a run; leave the option out")
    if len(begun) > 1:
        raise ConfigError(
            f"--start: members of {options.name} begin with {' and '.join(begun)}; "
            f"name one member, as in {options.name}/{beginners[0]}"
        )
    check_there(replace(recipes[beginners[0]], start=options.start))
    return begun[0]


def of_member(options: Asked, name: str) -> Asked:
    """The options of a group as they mean one of its members."""
    group, _, leaf = name.rpartition("/")
    out = (options.out or Path("runs", group)) / f"{leaf}-seed-{options.seed}"
    if isinstance(options, Run) and options.results:
        return replace(options, name=name, out=out, results=options.results / leaf)
    return replace(options, name=name, out=out)


def run_one(options: Run) -> int:
    """Trains one recipe with one seed, or goes on, and writes what came out; what is finished stays."""
    plan = ready(ask(options.name, options.seed, options.data, options.out, options.json, options.start))
    results = options.results or plan.folder / "results"
    command = f"cutaway recipes run {options.name} --seed {options.seed}"
    if not check_text(plan, results, "leave --data out, or name another folder by --results"):
        command += f" --data {shlex.join(plan.texts)}"
    if options.start:
        command += f" --start {shlex.quote(options.start)}"
    path = results / file_name(options.seed)
    before = next((seed for seed in read_results(plan.folder, results) if seed.seed == options.seed), None)
    if before and is_of_run(before, plan):
        print(f"{options.name}: there already: {plan.out} and {path}", file=sys.stderr)
        if options.json:
            print(json.dumps(asdict(before)))
        return 0
    run, result = train_seed(plan, command)
    report = write_page(plan, run)  # first: where there is a result the run is passed over
    write_result(results, result)
    if before:
        figures = f"{before.value:.4f} of another run, now {result.value:.4f}"
        print(f"{options.name}: {path}: was {figures}", file=sys.stderr)
    if options.json:
        print(json.dumps(asdict(result)))
    else:
        expected = read_expected(plan.folder)
        print(f"{result.value:.4f} {expected.unit} in {result.seconds:.1f} s of training -> {path}")
        if expected.measure in result.details:
            print(result.details[expected.measure])
        print_report(report)
    return 0


def verify_one(options: Verify) -> int:
    """Trains one recipe with one seed, or goes on, and judges what came out by what is committed."""
    plan = ask(options.name, options.seed, options.data, options.out, options.json, options.start)
    expected, committed = read_expected(plan.folder), read_results(plan.folder)
    check_judgeable(expected, committed)
    if plan.texts and not committed:
        raise ConfigError(
            "--data: what is published is not of this text, and no seed is; leave the option out"
        )
    plan = ready(plan)
    check_text(plan, plan.folder / "results", "leave --data out")
    if any(is_of_run(result, plan) for result in committed):
        raise OutputExistsError(f"{plan.out}: the committed result is of this run; choose another --out")
    run, result = train_seed(plan, "")
    verdict, report = judge(expected, committed, result.value), write_page(plan, run)
    if options.json:
        print(json.dumps({"agrees": verdict.agrees, "said": verdict.said, "value": result.value}))
    else:
        print(verdict.said)
        print_report(report)
    return 0 if verdict.agrees else 1


def print_report(path: str) -> None:
    """Where the page is, if there is one."""
    if path:
        print(f"report: {path}")
