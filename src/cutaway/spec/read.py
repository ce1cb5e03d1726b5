"""Models and recipes from TOML, JSON and dictionaries: what is not understood is refused with its path.

A model is a tree of records (`spec.structure`), or the name of a `preset` with the arguments of its function.
Reading proves names and types; `spec.check` judges values.
"""

import inspect
import tomllib
from dataclasses import field, fields, make_dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from cutaway.errors import ConfigError, FileFormatError, nearest
from cutaway.spec.check import check_model, check_recipe
from cutaway.spec.model import Model
from cutaway.spec.presets import PRESETS
from cutaway.spec.run import Recipe
from cutaway.spec.structure import (
    RefusedError,
    converter,
    one_line,
    reader_of,
    record_reader,
    shown,
    structure,
)
from cutaway.spec.write import FORMAT, NONE
from cutaway.store import read_file, read_object

MOST_BYTES = 2**18  # of a configuration file: ours have a few thousand
DEPTH = 64  # of a configuration in JSON
MOST_DOTS = 2_000  # between two equal signs of a line: tomllib takes quadratic time on a key of many parts


def read_model(data: object, source: str = "model") -> Model:
    """The model that `data`, as `write_model` makes it, describes; `source` begins the messages.

    Raises ConfigError with the path of the first thing that is unknown, missing, of a wrong type or too big.
    """
    rest = _take_format(data, source, needed=True)
    model = structure(rest, Model, source)
    check_model(model, source)
    return model


def read_recipe(data: str | Path | dict[str, Any], source: str = "recipe") -> Recipe:
    """The recipe of a `recipe.toml` (or `.json`), or of the table such a file holds, then called `source`.

    Raises InputMissingError where there is no such file, FileFormatError where it is no TOML, and ConfigError
    as `read_model` does.
    """
    if not isinstance(data, dict):
        source, data = str(data), read_table(Path(data))
    table = {"model": NONE} | _take_format(data, source, needed=False)  # none: that of its start
    recipe = structure(table, Recipe, source)
    check_recipe(recipe, source)
    return recipe


def read_table(path: Path) -> dict[str, Any]:
    """The table that a TOML or JSON file holds, read as text without being understood."""
    if Path(path).suffix == ".json":
        return read_object(path, MOST_BYTES, DEPTH)
    data = read_file(path, MOST_BYTES, "recipe")
    if any(part.count(b".") > MOST_DOTS for line in data.split(b"\n") for part in line.split(b"=")):
        raise FileFormatError(path, f"a line with more than {MOST_DOTS:,} dots; put lists on several lines")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8; save it as UTF-8", problem.start) from None
    except RecursionError:
        raise FileFormatError(path, "nested too deeply; a recipe has a few levels") from None
    except ValueError as problem:
        raise FileFormatError(path, f"not valid TOML: {one_line(problem)}") from None


@cache
def preset_arguments(name: str) -> type:
    """The arguments of a preset's function as a record class: what stands beside `preset = NAME`.

    Raises ConfigError, with the nearest name, for an unknown preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"preset {name!r} unknown; {nearest(name, PRESETS)}")
    hints = get_type_hints(PRESETS[name])
    arguments: list[Any] = []
    for key, parameter in inspect.signature(PRESETS[name]).parameters.items():
        if parameter.default is inspect.Parameter.empty:
            arguments.append((key, hints[key]))
        else:
            arguments.append((key, hints[key], field(default=parameter.default)))
    made = make_dataclass(name, arguments, frozen=True, kw_only=True)
    made.__doc__ = inspect.getdoc(PRESETS[name])
    return made


def build_preset(arguments: object, source: str = "model") -> Model:
    """The model of a filled-in record of `preset_arguments`; ConfigError where its values make none."""
    try:
        return _build(arguments)
    except RefusedError as refused:
        raise ConfigError(": ".join(part for part in (source, refused.key, refused.rule) if part)) from None


def _build(arguments: object) -> Model:
    values = {f.name: getattr(arguments, f.name) for f in fields(arguments)}  # pyrefly: ignore
    for key, value in values.items():
        if type(value) is int and value < 1:  # every whole number of a preset counts something
            raise RefusedError(f"{value} must be at least 1", key)
    try:
        return PRESETS[type(arguments).__name__](**values)
    except (ArithmeticError, ValueError) as problem:
        raise RefusedError(f"the preset refuses its arguments ({one_line(problem)})") from None


def read_preset(value: dict[str, Any], source: str = "model") -> Any:
    """The filled-in arguments, a record of `preset_arguments`, that a table with a `preset` gives."""
    return structure(value, Preset, source)


class Preset:
    """What a table with a `preset` is read as; its records are those of `preset_arguments`."""


def _read_arguments(value: object, _: type) -> object:
    if not isinstance(value, dict):
        raise RefusedError(f"{shown(value)} is not a table")
    name = value.get("preset")
    if not isinstance(name, str) or name not in PRESETS:
        raise RefusedError(f"{shown(name)} unknown; {nearest(str(name), PRESETS, most=1)}", "preset")
    record = preset_arguments(name)
    return reader_of(record)({key: item for key, item in value.items() if key != "preset"}, record)


def _read_any_model(value: object, slot: type) -> Model:
    if isinstance(value, dict) and "preset" in value:
        return _build(_read_arguments(value, Preset))
    return record_reader(slot)(value, slot)


def _take_format(data: object, source: str, *, needed: bool) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {shown(data)} is not a table")
    if "format" not in data and not needed:
        return data
    number = data.get("format")
    if type(number) is not int or number != FORMAT:
        said = "missing" if "format" not in data else f"{shown(number)} unknown"
        raise ConfigError(f"{source}: format: {said}; this version of Cutaway reads format {FORMAT}")
    return {key: value for key, value in data.items() if key != "format"}


converter().register_structure_hook_func(lambda slot: slot is Preset, _read_arguments)
converter().register_structure_hook_func(lambda slot: slot is Model, _read_any_model)
