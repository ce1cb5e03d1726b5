"""JSON of strangers: bounded before it is read, no key twice, nothing that is not JSON.

Python's reader is lenient: of a key that stands twice it keeps the last, it takes NaN for a number, and what
it builds can be twenty times as large as the text. Another program may then see another file than we do.
"""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from cutaway.errors import FileFormatError
from cutaway.store.files import read_file

MOST_BYTES = 2**26  # of a file that `read_object` reads
DEPTH = 16
MOST_TOKENS = 2**21  # strings, brackets, commas and colons: bounds the time, and what is built of them
MOST_VALUES = 2**23  # of a tokenizer.json, which has a list for each of half a million merges
# A string (also one that never ends, so that the search stays linear), or a mark.
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},:]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_object(path: str | Path, most: int = MOST_BYTES, depth: int = DEPTH) -> dict[str, Any]:
    """The object that a JSON file of at most `most` bytes holds, nested at most `depth` deep.

    Raises InputMissingError where it cannot be read, FileFormatError as `read_json`, and for another value.
    """
    values = read_json(Path(path), read_file(path, most, "file of its kind"), depth)
    if not isinstance(values, dict):
        raise FileFormatError(path, f"holds {told(values)} where an object belongs")
    return values


def read_json(path: Path, data: bytes, depth: int, offset: int = 0) -> Any:
    """What JSON text of a file says, nested at most `depth` deep; `offset` is where the text begins in it.

    Raises FileFormatError for what is not UTF-8, not JSON, nested too deeply, too much of it, a key that
    stands twice, a number without a value, a lone surrogate.
    """
    text = _decoded(path, data, offset)
    check_nesting(path, text, depth, offset)
    return _parsed(path, text, offset)


def read_many(path: Path, data: bytes) -> Any:
    """`read_json` of a file with millions of values, such as a tokenizer.json: it may be nested as deeply as
    Python can read, and values are counted by the marks before them, those inside of strings too.
    """
    text = _decoded(path, data, 0)
    if sum(map(text.count, "[{,")) > MOST_VALUES:
        raise FileFormatError(path, f"more than {MOST_VALUES:,} values, which no such file has", 0)
    return _parsed(path, text, 0)


def check_nesting(path: Path, text: str, depth: int, offset: int = 0) -> None:
    """Raises FileFormatError where brackets open deeper than `depth`, or tokens are too many; one pass."""
    level = 0
    for number, token in enumerate(_TOKENS.finditer(text)):
        first = token[0][0]
        level += (first in "[{") - (first in "]}")
        if level > depth:
            at = offset + len(text[: token.start()].encode())
            raise FileFormatError(path, f"nested more than {depth} deep; the file is damaged", at)
        if number == MOST_TOKENS:
            raise FileFormatError(path, f"more than {MOST_TOKENS:,} values, which no such file has", offset)


def told(value: object) -> str:
    """A value as an error shows it."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


class _RefusedError(Exception):
    """What is wrong, where the path is not known."""


def _decoded(path: Path, data: bytes, offset: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8; the file is damaged", offset + problem.start) from None


def _parsed(path: Path, text: str, offset: int) -> Any:
    try:
        found = json.loads(text, object_pairs_hook=_table, parse_constant=_refuse_constant)
        if _SURROGATE.search(text):  # one half of a pair, or both
            json.dumps(found, ensure_ascii=False).encode()
        return found
    except json.JSONDecodeError as problem:
        at = offset + len(text[: problem.pos].encode())
        raise FileFormatError(path, f"not valid JSON: {problem.msg}", at) from None
    except _RefusedError as problem:
        raise FileFormatError(path, f"{problem}; the file is damaged", offset) from None
    except RecursionError:
        raise FileFormatError(path, "nested too deeply; the file is damaged", offset) from None
    except UnicodeEncodeError:
        raise FileFormatError(path, "a string is not valid Unicode; the file is damaged", offset) from None
    except ValueError:  # of a whole number with thousands of digits
        raise FileFormatError(path, "not valid JSON: a number is too long", offset) from None


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _RefusedError(f"key {twice!r} stands twice")
    return table


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a number of JSON")
