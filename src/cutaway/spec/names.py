"""Names with dots, of taps and of parameters, and patterns of them.

`*` stands for one part of a name, `**` for any number of parts; `?` and `[0-3]` work within a part.
"""

import re
from collections.abc import Iterable
from fnmatch import translate

from cutaway.errors import ConfigError, nearest


def matcher(pattern: str) -> re.Pattern[str]:
    """The regular expression of a pattern."""
    parts = pattern.split(".")
    out = ""
    for place, part in enumerate(parts):
        last = place == len(parts) - 1
        if part == "**":
            out += r"[^.]+(?:\.[^.]+)*" if last else r"(?:[^.]+\.)*"
        else:
            out += translate(part)[4:-3].replace(".*", "[^.]*") + ("" if last else r"\.")
    return re.compile(out)


def named_by(patterns: Iterable[str], names: Iterable[str], key: str) -> list[str]:
    """Those of the names that one of the patterns means, in their order.

    Raises ConfigError, with near names, for a pattern that means none; `key` begins the message.
    """
    names = list(names)
    found: set[str] = set()
    for pattern in patterns:
        expression = matcher(pattern)
        meant = [name for name in names if expression.fullmatch(name)]
        if not meant:
            raise ConfigError(f"{key}: {pattern!r} names nothing in this model; {nearest(pattern, names)}")
        found.update(meant)
    return [name for name in names if name in found]
