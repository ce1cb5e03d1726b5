"""The small files beside a vocabulary: JSON objects and lines of text, bounded and strict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cutaway.errors import FileFormatError
from cutaway.store import read_file, read_object, told

MOST_BYTES = 2**26
MOST_IDS = 2**24  # ten times the largest vocabulary in use
MOST_NAME_BYTES = 2**12  # of one token


def read_text(path: Path) -> str:
    """The text of a UTF-8 file; raises as `store.read_file`, and FileFormatError at a byte that is wrong."""
    try:
        return read_file(path, MOST_BYTES, "vocabulary").decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8; fetch the file again", problem.start) from None


def read_optional(path: Path) -> dict[str, Any]:
    """The object a JSON file holds, empty where there is no such file; raises as `store.read_object`."""
    return read_object(path) if path.is_file() else {}


def check_ids(path: Path, vocabulary: Mapping[str, Any]) -> dict[str, int]:
    """The ids of a vocabulary by name. Raises FileFormatError where an id is no id, or is there twice."""
    if not vocabulary:
        raise FileFormatError(path, "the vocabulary is empty; fetch the file again")
    for name, number in vocabulary.items():
        check_name(path, name, number)
        if type(number) is not int or not 0 <= number < MOST_IDS:
            raise FileFormatError(
                path, f"token {name!r} has id {told(number)}: must be a whole number below {MOST_IDS:,}"
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
        raise FileFormatError(path, f"{key}: {told(value)} must be {kind.__name__}")
    return value
