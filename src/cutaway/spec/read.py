"""From TOML, JSON and dictionaries to records, strictly: what is not understood is refused with its path.

A record that stands in a slot says which one it is by `kind`, its class name. The choices of a slot are all
records derived from it when the file is read, so one defined outside this package counts. A model is such a tree,
or the name of a `preset` with the arguments of its function. Reading proves types; `spec.check` judges values.
"""

import inspect
import json
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, field, fields, is_dataclass, make_dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from cattrs import Converter
from cattrs.errors import AttributeValidationNote, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from cutaway.errors import ConfigError, FileFormatError, InputMissingError, nearest
from cutaway.spec.check import check_model, check_recipe
from cutaway.spec.model import Model
from cutaway.spec.presets import PRESETS
from cutaway.spec.run import Recipe
from cutaway.spec.write import FORMAT, NONE

MOST_BYTES = 2**20  # of a configuration file: ours have a few thousand
WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


def read_model(data: object, source: str = "model") -> Model:
    """The model that `data`, as `write_model` makes it, describes; `source` begins the messages.

    Raises ConfigError with the path of the first thing that is unknown, missing, of a wrong type, out of range.
    """
    rest = _take_format(data, source, needed=True)
    model = _structure(rest, Model, source, "")
    check_model(model, source)
    return model


def read_recipe(source: str | Path | dict[str, Any]) -> Recipe:
    """The recipe of a `recipe.toml` (or `.json`), or of the dictionary such a file holds.

    Raises InputMissingError where there is no such file, FileFormatError where it is no TOML, and ConfigError
    as `read_model` does.
    """
    name = "recipe" if isinstance(source, dict) else str(source)
    data = source if isinstance(source, dict) else read_table(Path(source))
    recipe = _structure(_take_format(data, name, needed=False), Recipe, name, "")
    check_recipe(recipe, name)
    return recipe


def read_record(data: object, slot: type, source: str, path: str = "") -> Any:
    """One record of `slot` from its dictionary: a part of a recipe, with the messages of the whole."""
    return _structure(data, slot, source, path)


def read_table(path: Path) -> dict[str, Any]:
    """The table that a TOML or JSON file holds, read as text without being understood."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    if len(data) > MOST_BYTES:
        raise FileFormatError(path, f"more than {MOST_BYTES:,} bytes, which no recipe has; name another file")
    load = json.loads if Path(path).suffix == ".json" else tomllib.loads
    try:
        table = load(data.decode("utf-8"))
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8; save it as UTF-8", problem.start) from None
    except RecursionError:
        raise FileFormatError(path, "nested too deeply; a recipe has a few levels") from None
    except ValueError as problem:
        language = "JSON" if load is json.loads else "TOML"
        raise FileFormatError(path, f"not valid {language}: {_line(problem)}") from None
    if not isinstance(table, dict):
        raise FileFormatError(path, f"holds {_shown(table)} where a table belongs")
    return table


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
    except _RefusedError as refused:
        raise ConfigError(": ".join(part for part in (source, refused.key, refused.rule) if part)) from None


def _build(arguments: object) -> Model:
    values = {f.name: getattr(arguments, f.name) for f in fields(arguments)}  # pyrefly: ignore
    for key, value in values.items():
        if type(value) is int and value < 1:  # every whole number of a preset counts something
            raise _RefusedError(f"{value} must be at least 1", key)
    try:
        return PRESETS[type(arguments).__name__](**values)
    except (ArithmeticError, ValueError) as problem:
        raise _RefusedError(f"the preset refuses its arguments ({_line(problem)})") from None


def choices(slot: type) -> dict[str, type]:
    """The records that may stand in a slot now, by name; a record is its own slot.

    Raises ConfigError where two different records share a name.
    """
    found: dict[str, type] = {}
    todo = [slot]
    while todo:
        record = todo.pop(0)
        todo += record.__subclasses__()
        if not (is_dataclass(record) and "__dataclass_fields__" in vars(record)):
            continue
        other = found.get(record.__name__)
        if other and (other.__module__, other.__qualname__) != (record.__module__, record.__qualname__):
            raise ConfigError(
                f"two records are called {record.__name__}, in {other.__module__} and {record.__module__}: "
                "rename one"
            )
        found[record.__name__] = record  # of one defined again, as in a notebook, the last counts
    return found


class _RefusedError(Exception):
    """What is wrong, without the path, which is known further up; `key` where it is a key of the table."""

    def __init__(self, rule: str, key: str = ""):
        self.rule, self.key = rule, key
        super().__init__(rule)


def _structure(data: object, slot: type, source: str, path: str) -> Any:
    try:
        return _converter().structure(data, slot)
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply; a recipe has a few levels") from None
    except Exception as problem:
        inside, refused = _first(problem, path)
        match refused:
            case _RefusedError():
                inside = ".".join(part for part in (inside, refused.key) if part)
            case RecursionError():
                raise ConfigError(f"{source}: nested too deeply; a recipe has a few levels") from None
            case ConfigError() | ValueError():  # of a record's own __post_init__
                pass
            case _:
                raise
        raise ConfigError(": ".join(part for part in (source, inside, _line(refused, 200)) if part)) from None


def _first(problem: BaseException, path: str) -> tuple[str, BaseException]:
    """The first thing that went wrong inside cattrs' groups of errors, and where."""
    for note in reversed(getattr(problem, "__notes__", ())):  # the outermost was added last
        if isinstance(note, IterableValidationNote):
            path += f"[{note.index}]"
        elif isinstance(note, AttributeValidationNote):
            path = f"{path}.{note.name}" if path else note.name
    if isinstance(problem, BaseExceptionGroup):
        return _first(problem.exceptions[0], path)
    return path, problem


@cache
def _converter() -> Converter:
    converter = Converter(detailed_validation=True)
    for plain in WORDS:
        converter.register_structure_hook(plain, _read_plain)
    converter.register_structure_hook_factory(_is_record, _record_reader)
    converter.register_structure_hook_factory(lambda t: get_origin(t) is Literal, _literal_reader)
    converter.register_structure_hook_factory(_is_tuple, lambda t: _tuple_reader(t, converter))
    converter.register_structure_hook_factory(_is_optional, lambda t: _optional_reader(t, converter))
    return converter


def _is_record(slot: object) -> bool:
    return isinstance(slot, type) and slot.__module__ != "builtins" and get_origin(slot) is None


def _is_tuple(wanted: object) -> bool:
    return get_origin(wanted) is tuple


def _is_optional(wanted: object) -> bool:
    return get_origin(wanted) in (Union, UnionType) and NoneType in get_args(wanted)


def _read_plain(value: object, wanted: type) -> Any:
    if wanted is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not wanted:
        raise _RefusedError(f"{_shown(value)} is not {WORDS[wanted]}")
    if wanted is int and not -(2**63) <= value < 2**63:  # pyrefly: ignore
        raise _RefusedError("a whole number of more than 64 bits")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise _RefusedError("a string that is not valid Unicode")
    return value


def _record_reader(slot: type) -> Callable[[object, type], Any]:
    def read(value: object, _: type) -> Any:
        if not isinstance(value, dict):
            raise _RefusedError(f"{_shown(value)} is not a table{_kinds(slot)}")
        if slot is Model and "preset" in value:
            return _read_preset(value)
        record, given = _chosen(slot, value)
        return _reader_of(record)(given, record)

    return read


@cache
def _reader_of(record: type) -> Callable[[dict[str, Any], type], Any]:
    """Filled in by cattrs field by field; unknown and missing keys are looked for first."""
    fill = make_dict_structure_fn(record, _converter())
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(record)}

    def read(given: dict[str, Any], _: type) -> Any:
        for key in given:
            if key not in known:
                raise _RefusedError(f"unknown key; {nearest(str(key), known)}", _plain_key(key))
        for key, needed in known.items():
            if needed and key not in given:
                raise _RefusedError(f"missing; {record.__name__} needs it", key)
        return fill(given, record)

    return read


def _chosen(slot: type, value: dict[str, Any]) -> tuple[type, dict[str, Any]]:
    """Which record a table means, and the table without its `kind`."""
    known = choices(slot)
    given = {key: item for key, item in value.items() if key != "kind"}
    if "kind" not in value:
        if slot.__name__ in known:
            return slot, given
        raise _RefusedError(f"missing; {nearest('', known)}", "kind")
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in known:
        raise _RefusedError(f"{_shown(kind)} unknown; {nearest(str(kind), known)}", "kind")
    return known[kind], given


def _read_preset(value: dict[str, Any]) -> Model:
    name = value["preset"]
    if not isinstance(name, str) or name not in PRESETS:
        raise _RefusedError(f"{_shown(name)} unknown; {nearest(str(name), PRESETS)}", "preset")
    given = {key: item for key, item in value.items() if key != "preset"}
    record = preset_arguments(name)
    return _build(_reader_of(record)(given, record))


def _literal_reader(wanted: Any) -> Callable[[object, type], Any]:
    known = get_args(wanted)

    def read(value: object, _: type) -> Any:
        if type(value) not in {type(k) for k in known} or value not in known:
            raise _RefusedError(f"{_shown(value)} unknown; {nearest(str(value), known)}")
        return value

    return read


def _tuple_reader(wanted: Any, converter: Converter) -> Callable[[object, type], Any]:
    inside = get_args(wanted)
    each = inside[0] if inside[-1] is Ellipsis else None

    def read(value: object, _: type) -> Any:
        if not isinstance(value, list | tuple):
            raise _RefusedError(f"{_shown(value)} is not a list")
        if each is None and len(value) != len(inside):
            raise _RefusedError(f"{len(value)} values, but {len(inside)} belong here")
        items = []
        for index, item in enumerate(value):
            part = each if each is not None else inside[index]
            try:
                items.append(converter.structure(item, part))
            except Exception as problem:
                problem.add_note(IterableValidationNote(f"item {index}", index, part))
                raise
        return tuple(items)

    return read


def _optional_reader(wanted: Any, converter: Converter) -> Callable[[object, type], Any]:
    inside = [t for t in get_args(wanted) if t is not NoneType]
    if len(inside) != 1:
        raise ConfigError(f"{wanted}: a field is one type or none; make a slot of it")

    def read(value: object, _: type) -> Any:
        if value is None or value == NONE:
            return None
        return converter.structure(value, inside[0])

    return read


def _take_format(data: object, source: str, *, needed: bool) -> object:
    if not isinstance(data, dict):
        raise ConfigError(f"{source}: {_shown(data)} is not a table")
    if "format" not in data and not needed:
        return data
    number = data.get("format")
    if type(number) is not int or number != FORMAT:
        said = "missing" if "format" not in data else f"{_shown(number)} unknown"
        raise ConfigError(f"{source}: format: {said}; this version of Cutaway reads format {FORMAT}")
    return {key: value for key, value in data.items() if key != "format"}


def _kinds(slot: type) -> str:
    known = choices(slot)
    return "" if slot.__name__ in known else f" with a kind; {nearest('', known)}"


def _plain_key(key: object) -> str:
    return key if isinstance(key, str) and key.isidentifier() and len(key) < 60 else _shown(key)


def _shown(value: object) -> str:
    """A value inside a message: short, on one line, whatever it is."""
    if isinstance(value, dict | list | tuple):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a huge number"
    return _line(ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value))


def _line(said: object, most: int = 80) -> str:
    text = " ".join(str(said).split())
    return text if len(text) <= most else text[: most - 3] + "..."
