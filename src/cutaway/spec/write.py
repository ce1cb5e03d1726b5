"""From records to JSON and TOML: what `spec.read` reads back without a difference."""

import json
from dataclasses import fields, is_dataclass
from typing import Any

from cutaway.errors import ConfigError
from cutaway.spec.model import Model
from cutaway.spec.run import Recipe

FORMAT = 1
NONE = "none"  # how TOML, which has no null, says that an optional value is left out


def write_model(model: Model) -> dict[str, Any]:
    """The model as plain values, for JSON: `format`, then the whole tree, defaults included."""
    return {"format": FORMAT, **write_record(model)}


def write_recipe(recipe: Recipe) -> str:
    """The resolved recipe as TOML: all of it, defaults included, so that a new default changes no old run.

    Raises ConfigError for what TOML cannot hold, such as a file name that is not UTF-8.
    """
    tables = write_record(recipe)
    plain = {"format": FORMAT, **tables}
    return "\n".join(_table(plain, ())).lstrip("\n") + "\n"


def write_record(record: Any) -> dict[str, Any]:
    """A record as plain values; one that stands in a slot says its `kind`, and None its absence."""
    values: dict[str, Any] = {}
    if type(record).__mro__[1:-1]:  # derived from a slot
        values["kind"] = type(record).__name__
    for field in fields(record):
        value = getattr(record, field.name)
        if value is None and field.default is None:
            continue
        values[field.name] = _value(value)
    return values


def _value(value: Any) -> Any:
    if is_dataclass(value):
        return write_record(value)
    if isinstance(value, tuple | list):
        return [_value(item) for item in value]
    return value


def _table(table: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    """Lines of a table: its plain values first, as TOML wants, then the tables and lists of tables inside."""
    lines = [f"{key} = {_literal(value, (*path, key))}" for key, value in table.items() if not _nested(value)]
    for key, value in table.items():
        here = (*path, key)
        if isinstance(value, dict):
            lines += ["", f"[{'.'.join(map(_key, here))}]", *_table(value, here)]
        elif _nested(value):
            for item in value:
                lines += ["", f"[[{'.'.join(map(_key, here))}]]", *_table(item, here)]
    return lines


def _nested(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value))


def _literal(value: Any, path: tuple[str, ...]) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case None:
            return json.dumps(NONE)
        case int() | float():
            return repr(value)
        case str():
            return _string(value, path)
        case list():
            return "[" + ", ".join(_literal(item, path) for item in value) + "]"
    raise ConfigError(f"{'.'.join(path)}: a {type(value).__name__} cannot be written to TOML")


def _string(text: str, path: tuple[str, ...]) -> str:
    """JSON's escapes are TOML's, but for DEL; `ensure_ascii` would make surrogates, which TOML refuses."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ConfigError(f"{'.'.join(path)}: {text!a} is not UTF-8; rename the file") from None
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key)
