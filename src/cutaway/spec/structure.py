"""From plain dictionaries and lists to records, by the records' own types: cattrs, made strict.

A record that stands in a slot says which one it is by `kind`, its class name. The choices of a slot are all
records derived from it when the file is read, so one defined outside this package counts.
"""

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from cattrs import Converter
from cattrs.errors import AttributeValidationNote, IterableValidationNote
from cattrs.gen import make_dict_structure_fn

from cutaway.errors import ConfigError, nearest
from cutaway.spec.write import NONE

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}


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


class RefusedError(Exception):
    """What is wrong, without the path, which is known further up; `key` where it is a key of the table."""

    def __init__(self, rule: str, key: str = ""):
        self.rule, self.key = rule, key
        super().__init__(rule)


def structure(data: object, slot: type, source: str) -> Any:
    """The record of `slot` that `data` describes, or ConfigError: `source`, path, rule."""
    try:
        return converter().structure(data, slot)
    except Exception as problem:
        inside, refused = _first(problem, "")
        match refused:
            case RefusedError():
                inside = ".".join(part for part in (inside, refused.key) if part)
            case RecursionError():
                raise ConfigError(f"{source}: nested too deeply; a recipe has a few levels") from None
            case ConfigError() | ValueError():  # of a record's own __post_init__
                pass
            case _:
                raise
        rule = one_line(refused, 300)
        raise ConfigError(": ".join(part for part in (source, inside, rule) if part)) from None


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
def converter() -> Converter:
    """cattrs with hooks of ours for all that a record may hold; its own are lenient (`int("3")`)."""
    converter = Converter(detailed_validation=True)
    for plain in WORDS:
        converter.register_structure_hook(plain, _read_plain)
    converter.register_structure_hook_factory(_is_record, record_reader)
    converter.register_structure_hook_factory(lambda t: get_origin(t) is Literal, _literal_reader)
    converter.register_structure_hook_factory(_is_tuple, lambda t: _tuple_reader(t, converter))
    converter.register_structure_hook_factory(_is_table, lambda t: _table_reader(t, converter))
    converter.register_structure_hook_factory(_is_optional, lambda t: _optional_reader(t, converter))
    return converter


def _is_record(slot: object) -> bool:
    return isinstance(slot, type) and slot.__module__ != "builtins" and get_origin(slot) is None


def _is_tuple(wanted: object) -> bool:
    return get_origin(wanted) is tuple


def _is_table(wanted: object) -> bool:
    return get_origin(wanted) is dict


def _is_optional(wanted: object) -> bool:
    return get_origin(wanted) in (Union, UnionType) and NoneType in get_args(wanted)


def _read_plain(value: object, wanted: type) -> Any:
    if wanted is float and type(value) is int and abs(value) < 2**53:
        return float(value)
    if type(value) is not wanted:
        raise RefusedError(f"{shown(value)} is not {WORDS[wanted]}")
    if wanted is int and not -(2**63) <= value < 2**63:  # pyrefly: ignore
        raise RefusedError("a whole number of more than 64 bits")
    if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise RefusedError("a string that is not valid Unicode")
    return value


def record_reader(slot: type) -> Callable[[object, type], Any]:
    """Reads the table of any record of a slot."""

    def read(value: object, _: type) -> Any:
        if not isinstance(value, dict):
            raise RefusedError(f"{shown(value)} is not a table{_kinds(slot)}")
        record, given = _chosen(slot, value)
        return reader_of(record)(given, record)

    return read


@cache
def reader_of(record: type) -> Callable[[dict[str, Any], type], Any]:
    """Filled in by cattrs field by field; unknown and missing keys are looked for first."""
    fill = make_dict_structure_fn(record, converter())
    known = {f.name: f.default is MISSING and f.default_factory is MISSING for f in fields(record)}

    def read(given: dict[str, Any], _: type) -> Any:
        for key in given:
            if key not in known:
                raise RefusedError(f"unknown key; {nearest(str(key), known, most=1)}", _plain_key(key))
        for key, needed in known.items():
            if needed and key not in given:
                raise RefusedError(f"missing; {record.__name__} needs it", key)
        return fill(given, record)

    return read


def _chosen(slot: type, value: dict[str, Any]) -> tuple[type, dict[str, Any]]:
    """Which record a table means, and the table without its `kind`."""
    known = choices(slot)
    given = {key: item for key, item in value.items() if key != "kind"}
    if "kind" not in value:
        if slot.__name__ in known:
            return slot, given
        raise RefusedError(f"missing; {nearest('', known)}", "kind")
    kind = value["kind"]
    if not isinstance(kind, str) or kind not in known:
        raise RefusedError(f"{shown(kind)} unknown; {nearest(str(kind), known, most=1)}", "kind")
    return known[kind], given


def _literal_reader(wanted: Any) -> Callable[[object, type], Any]:
    known = get_args(wanted)

    def read(value: object, _: type) -> Any:
        if type(value) not in {type(k) for k in known} or value not in known:
            raise RefusedError(f"{shown(value)} unknown; {nearest(str(value), known, most=1)}")
        return value

    return read


def _tuple_reader(wanted: Any, converter: Converter) -> Callable[[object, type], Any]:
    inside = get_args(wanted)
    each = inside[0] if inside[-1] is Ellipsis else None

    def read(value: object, _: type) -> Any:
        if not isinstance(value, list | tuple):
            raise RefusedError(f"{shown(value)} is not a list")
        if each is None and len(value) != len(inside):
            raise RefusedError(f"{len(value)} values, but {len(inside)} belong here")
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


def _table_reader(wanted: Any, converter: Converter) -> Callable[[object, type], Any]:
    inside = get_args(wanted)[1]

    def read(value: object, _: type) -> Any:
        if not isinstance(value, dict):
            raise RefusedError(f"{shown(value)} is not a table")
        items = {}
        for key, item in value.items():
            try:
                items[key] = converter.structure(item, inside)
            except Exception as problem:
                problem.add_note(AttributeValidationNote(f"key {key}", _plain_key(key), inside))
                raise
        return items

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


def _kinds(slot: type) -> str:
    known = choices(slot)
    return "" if slot.__name__ in known else f" with a kind; {nearest('', known)}"


def _plain_key(key: object) -> str:
    return key if isinstance(key, str) and key.isidentifier() and len(key) < 60 else shown(key)


def shown(value: object) -> str:
    """A value inside a message: short, on one line, whatever it is."""
    if isinstance(value, dict | list | tuple):
        return "a table" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and abs(value) >= 2**63:
        return "a huge number"
    return one_line(ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value))


def one_line(said: object, most: int = 80) -> str:
    """What was said without its line ends, cut where it is long."""
    text = " ".join(str(said).split())
    return text if len(text) <= most else text[: most - 3] + "..."
