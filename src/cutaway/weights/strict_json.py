"""JSON of strangers: bounded before it is read, no key twice, nothing that is not JSON.

Python's reader is lenient: of a key that stands twice it keeps the last, it takes NaN for a number, and what
it builds can be twenty times as large as the text. Another program may then see another file than we do.
"""

import json
import re
from pathlib import Path
from typing import Any, NoReturn

from cutaway.errors import FileFormatError

MOST_TOKENS = 2**21  # strings, brackets, commas and colons: bounds the time, and what is built of them
# A string (also one that never ends, so that the search stays linear), or a mark.
_TOKENS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)|[\[\]{},:]', re.DOTALL)


def read_json(path: Path, data: bytes, depth: int, offset: int = 0) -> Any:
    """What JSON text of a file says, nested at most `depth` deep; `offset` is where the text begins in it.

    Raises FileFormatError for what is not UTF-8, not JSON, nested too deeply, too much of it, a key that
    stands twice, a number without a value, a lone surrogate.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise FileFormatError(path, "not UTF-8; the file is damaged", offset + problem.start) from None
    check_nesting(path, text, depth, offset)
    try:
        return json.loads(text, object_pairs_hook=_table, parse_constant=_refuse_constant)
    except json.JSONDecodeError as problem:
        at = offset + len(text[: problem.pos].encode())
        raise FileFormatError(path, f"not valid JSON: {problem.msg}", at) from None
    except _RefusedError as problem:
        raise FileFormatError(path, f"{problem}; the file is damaged", offset) from None
    except ValueError:  # of a whole number with thousands of digits
        raise FileFormatError(path, "not valid JSON: a number is too long", offset) from None


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


class _RefusedError(Exception):
    """What is wrong, where the path is not known."""


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise _RefusedError(f"key {twice!r} stands twice")
    for key, value in pairs:
        if not (_is_unicode(key) and (not isinstance(value, str) or _is_unicode(value))):
            raise _RefusedError("a string is not valid Unicode")
    return table


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedError(f"{name} is not a number of JSON")
