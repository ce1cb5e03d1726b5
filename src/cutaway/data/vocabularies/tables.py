"""The small files beside a vocabulary: JSON objects and lines of text, bounded and strict."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutaway.errors import FileFormatError, InputMissingError

MOST_BYTES = 2**26
MOST_IDS = 2**24  # ten times the largest vocabulary in use
MOST_NAME_BYTES = 2**12  # of one token


def read_file(path: Path, most: int = MOST_BYTES) -> bytes:
    """The bytes of a file. Raises InputMissingError where it cannot be read, FileFormatError where it is
    larger than `most`.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError as problem:
        raise InputMissingError(f"{path}: cannot be read ({problem.strerror}); check the path") from None
    if len(data) > most:
        raise FileFormatError(path, f"more than {most:,} bytes, which no vocabulary has; name another file")
    return data


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; raises as `read_file`, and FileFormatError with the place of a wrong byte."""
    try:
        return read_file(path).decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8; fetch the file again", problem.start) from None


def read_object(path: Path) -> dict[str, Any]:
    """The object a JSON file holds. Raises FileFormatError for anything else, and for a key that is twice
    there.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(pairs)
        if len(table) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for place, name in enumerate(names) if name in names[:place])
            raise FileFormatError(path, f"{twice!r} is there twice; fetch the file again")
        return table

    try:
        table = json.loads(read_text(path), object_pairs_hook=once)
    except RecursionError:
        raise FileFormatError(path, "nested too deeply; fetch the file again") from None
    except ValueError as problem:
        raise FileFormatError(path, f"not valid JSON ({problem}); fetch the file again") from None
    if not isinstance(table, dict):
        raise FileFormatError(path, "holds no JSON object; fetch the file again")
    return table


def read_optional(path: Path) -> dict[str, Any]:
    """The object a JSON file holds, empty where there is no such file; raises as `read_object`."""
    return read_object(path) if path.is_file() else {}


def check_ids(path: Path, vocabulary: Mapping[str, Any]) -> dict[str, int]:
    """The ids of a vocabulary by name. Raises FileFormatError where an id is no id, or is there twice."""
    if not vocabulary:
        raise FileFormatError(path, "the vocabulary is empty; fetch the file again")
    for name, number in vocabulary.items():
        check_name(path, name, number)
        if type(number) is not int or not 0 <= number < MOST_IDS:
            raise FileFormatError(
                path, f"token {name!r} has id {number!r}: must be a whole number below {MOST_IDS:,}"
            )
    if len(set(vocabulary.values())) < len(vocabulary):
        seen: set[int] = set()
        for name, number in vocabulary.items():
            if number in seen:
                raise FileFormatError(path, f"token {name!r}: id {number} is another token's already")
            seen.add(number)
    return dict(vocabulary)


def check_name(path: Path, name: str, place: object) -> None:
    """Raises FileFormatError for a token that is no text, or longer than tokens are."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise FileFormatError(
            path, f"token {place}: half a surrogate pair, not text; fetch it again"
        ) from None
    if size > MOST_NAME_BYTES:
        raise FileFormatError(path, f"token {place}: {size:,} bytes, at most {MOST_NAME_BYTES:,} are allowed")


def checked(path: Path, table: Mapping[str, Any], key: str, kind: type, default: Any = None) -> Any:
    """A value of a table, `default` where it is missing or null; FileFormatError if it has another type."""
    value = table.get(key)
    if value is None:
        return default
    if type(value) is not kind:
        raise FileFormatError(path, f"{key}: {value!r} must be {kind.__name__}")
    return value
