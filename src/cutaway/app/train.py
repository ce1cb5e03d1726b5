"""`cutaway train NAME [options]`: a recipe with values replaced, or a text, trained on as `stdlib` does."""

import json
import re
from dataclasses import asdict, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cutaway.app.options import Flag, option, parse
from cutaway.errors import InputMissingError
from cutaway.spec.check import check_recipe
from cutaway.spec.read import build_preset, read_preset, read_recipe, read_table
from cutaway.spec.recipes import RECIPE, find_recipe, folder_of, shipped_recipes, with_start_beside
from cutaway.spec.run import Recipe, Run, Text
from cutaway.spec.write import write_recipe

PLAIN = "stdlib"  # the recipe whose values serve for any text
TEXTS = "texts in place of the recipe's, or the folder of its files"
DESCRIPTION = """Train a model. NAME is a recipe ({names}), a recipe.toml, a folder or run that holds
one, or a text: a file, a folder, a .gz. The options below show the values of NAME; only --model.* of its
preset, --data.* and the run's own can be given here, the rest of the tree is what a recipe.toml is for.
--run.steps is --steps. The model's vocabulary is that of its data. With --resume, options must ask for what
the run was begun with; to change it, edit its recipe.toml.

{run}"""


def run(arguments: list[str]) -> int:
    """Trains, samples and reports, or with --print-config writes the resolved recipe to standard output."""
    target, rest = split_target(arguments)
    recipe, options = choose(*read_target(target), rest, f"cutaway train {target}")
    place = Path(target) if options.resume and is_run(target) else folder_of(target, recipe)
    out = options.out or place
    if options.resume and (out / RECIPE).is_file():
        recipe = read_begun(out, target, recipe, rest)
    if options.print_config:
        print(write_recipe(recipe), end="")
        return 0
    if not options.resume:
        recipe = with_start_beside(target, recipe, out)
        if recipe.start:
            check_there(recipe)
    from cutaway.app.outcome import conclude, describe
    from cutaway.app.progress import reporter
    from cutaway.data.download import with_local_data
    from cutaway.train.progress import Silent
    from cutaway.train.runner import Runner
    from cutaway.train.tensorboard import find_writer, write_events

    if options.tensorboard:
        find_writer()  # before the run and not after it
    say = Silent() if options.json else reporter(recipe.run.steps)
    runner = Runner(with_local_data(recipe), out, say=say)
    result = runner.train(options.resume)
    if options.tensorboard:
        write_events(out)
    outcome = conclude(runner.recipe, result, say)
    print(json.dumps(asdict(outcome)) if options.json else "\n".join(describe(outcome)))
    return 0


def check_there(recipe: Recipe) -> None:
    """Raises InputMissingError where a recipe's start is neither here nor a name that the hub may know."""
    from cutaway.weights.hub import means_model

    if not Path(recipe.start).exists() and not means_model(recipe.start):
        other = "" if recipe.model is None else " ('' begins with random weights)"
        raise InputMissingError(
            f"start: {recipe.start}: no such run or model; train it first, or name another by --start{other}"
        )


def split_target(arguments: list[str]) -> tuple[str, list[str]]:
    """What is to be trained, and the options; `--resume --out RUN` alone means the run."""
    rest = [re.sub(r"^--run\.", "--", argument) for argument in arguments]
    rest = [part for one in rest for part in (one.split("=", 1) if one.startswith("--out=") else [one])]
    if rest and not rest[0].startswith("-"):
        return rest[0], rest[1:]
    if "--resume" in rest and "--out" in rest[:-1]:
        return rest[rest.index("--out") + 1], rest
    return PLAIN, rest


def is_run(target: str) -> bool:
    return (Path(target) / RECIPE).is_file() and target not in shipped_recipes()


def is_text(target: str) -> bool:
    path = Path(target)
    text = path.exists() and target not in shipped_recipes() and path.suffix not in (".toml", ".json")
    return text and not (path / RECIPE).exists()


def read_target(target: str) -> tuple[str, dict[str, Any]]:
    """The file and the table of the recipe that a name, a path or a text stands for, as written there."""
    if not is_text(target):
        file = find_recipe(target)
        return str(file), read_table(file)
    path, table = Path(target), read_table(find_recipe(PLAIN))
    name = re.sub(r"[^\w.-]+", "-", path.resolve().stem).strip(".-") or "text"
    split = "file" if path.is_dir() else "tail"
    return target, table | {"name": name, "data": table["data"] | {"source": [target], "split": split}}


def choose(file: str, table: dict[str, Any], arguments: list[str], prog: str) -> tuple[Recipe, Any]:
    """The recipe of a table with the values that the arguments replace, and the other options."""
    recipe = read_recipe(table, file)
    preset = preset_of(table, f"{file}: model")
    options = parse(options_of(recipe, preset), arguments, prog, description())
    if preset is not None:
        recipe = replace(recipe, model=build_preset(replace(preset, **vars(options.model))))
    return with_options(recipe, options, prog), options


def preset_of(table: dict[str, Any], source: str = "model") -> Any:
    """The arguments of the preset that a recipe's model is, None where it is something else."""
    model = table.get("model")
    return read_preset(model, source) if isinstance(model, dict) and "preset" in model else None


def with_options(recipe: Recipe, options: Any, prog: str) -> Recipe:
    """The recipe with the values of run and data that the options hold."""
    recipe = replace(recipe, run=options.run, data=options.data, start=options.start)
    if options.text:
        from cutaway.app.seeds import with_texts

        recipe = with_texts(recipe, options.text)
    check_recipe(recipe, prog)
    return recipe


def read_begun(out: Path, target: str, recipe: Recipe, arguments: list[str]) -> Recipe:
    """The recipe of the run in `out`; ConfigError where target or arguments ask for another.

    `recipe` is what they ask for. Arguments that are left out ask for nothing, --model.* for a whole model.
    """
    from cutaway.app.seeds import placed, sources, spelled_as
    from cutaway.data.download import with_local_data
    from cutaway.train.records import check_asked

    stored, prog = read_recipe(out / RECIPE), f"cutaway train {target}"
    if is_run(target) and Path(target).samefile(out):
        asked = recipe
    else:
        preset = preset_of(read_target(target)[1])
        options = parse(options_of(stored, preset), arguments, prog)
        asked = with_options(replace(stored, name=recipe.name), options, prog)
        if any(argument.startswith("--model.") for argument in arguments):
            asked = replace(asked, model=recipe.model)
        if options.text and type(asked.data) is type(recipe.data):
            asked = replace(asked, data=placed(asked.data, sources(recipe.data)))
        if is_text(target) and not options.text and isinstance(asked.data, Text):
            asked = replace(asked, data=replace(asked.data, source=(target,)))
    check_asked(out, stored, spelled_as(stored, with_local_data(asked)))
    return stored


def options_of(recipe: Recipe, preset: object | None) -> type:
    """The options as a record: this command's, and the recipe's records with its values as defaults."""
    entries: list[Any] = [
        (
            "out",
            Annotated[Path | None, option(help="folder of the run (runs/NAME, in a group runs/GROUP/NAME)")],
            None,
        ),
        ("resume", Annotated[Flag, option(help="go on from the newest good checkpoint")], False),
        ("print_config", Annotated[Flag, option(help="print the resolved recipe, train nothing")], False),
        ("json", Annotated[Flag, option(help="print the outcome as JSON and nothing else")], False),
        ("tensorboard", Annotated[Flag, option(help="write TensorBoard's event files as well")], False),
        ("text", Annotated[tuple[str, ...], option(name="data", help=TEXTS)], ()),
        (
            "start",
            Annotated[str, option(help="a run or model whose weights and tokenizer it begins with")],
            recipe.start,
        ),
        ("run", Annotated[Run, option(name="")], recipe.run),
        ("data", type(recipe.data), recipe.data),
    ]
    if preset is not None:
        entries.append(("model", *without_vocab(preset)))
    return make_dataclass("Options", entries, frozen=True)


def without_vocab(preset: Any) -> tuple[type, Any]:
    """A preset's arguments but for the vocabulary, which every kind of data fits to itself."""
    kept = [entry for entry in fields(preset) if entry.name != "vocab"]
    values = {entry.name: getattr(preset, entry.name) for entry in kept}
    made = make_dataclass(
        type(preset).__name__, [(e.name, e.type, values[e.name]) for e in kept], frozen=True, kw_only=True
    )
    made.__doc__ = type(preset).__doc__
    return made, made(**values)


def description() -> str:
    return DESCRIPTION.format(names=", ".join(shipped_recipes()), run=" ".join((Run.__doc__ or "").split()))
