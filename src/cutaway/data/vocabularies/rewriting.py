"""A sentencepiece model's rules applied as sentencepiece does it: the longest rule that fits, from left to
right.

The tokenizers library looks up whole clusters (a letter with its marks, a Hangul syllable in parts), and of a
cluster it finds a beginning of, it drops the rest. Only texts with clusters of several characters differ.
"""

import unicodedata
from pathlib import Path

from cutaway.data.charsmap import parts_of

# Characters that join what stands before them, beside those of these categories.
JOINING = frozenset(
    chr(point)
    for first, last in ((0x1100, 0x11FF), (0xA960, 0xA97F), (0xD7B0, 0xD7FF), (0x1F3FB, 0x1F3FF))
    for point in range(first, last + 1)
) | {"\u0e33", "\u0eb3", "\uff9e", "\uff9f"}
CATEGORIES = ("Mn", "Mc", "Me", "Cf", "Lm")


def has_clusters(text: str) -> bool:
    """Whether a text may hold clusters of several characters, other than a carriage return and a newline."""
    if text.isascii():
        return False
    return any(letter in JOINING or unicodedata.category(letter) in CATEGORIES for letter in set(text))


class Rules:
    """The rules of a `precompiled_charsmap`, checked before by `check_charsmap`."""

    def __init__(self, path: Path, data: bytes):
        units, self._texts = parts_of(path, data)
        self._units: list[int] = units.tolist()

    def apply(self, text: str) -> str:
        """The text rewritten."""
        data, found, at, kept = text.encode(), [], 0, 0
        while at < len(data):
            end, place = self._longest(data, at)
            if end == at:
                at += 1
                while at < len(data) and data[at] & 0xC0 == 0x80:
                    at += 1
                continue
            found += [data[kept:at], self._texts[place : self._texts.index(b"\0", place)]]
            at = kept = end
        return b"".join([*found, data[kept:]]).decode()

    def _longest(self, data: bytes, begin: int) -> tuple[int, int]:
        """Where the longest rule that begins there ends, and the place of its text; `begin` if none does."""
        units = self._units
        node, best, place = _offset(units[0]), begin, 0
        for at in range(begin, len(data)):
            node ^= data[at]
            unit = units[node]
            if not data[at] or unit & 0x800000FF != data[at]:
                break
            node ^= _offset(unit)
            if unit >> 8 & 1:
                best, place = at + 1, units[node] & 0x7FFFFFFF
        return best, place


def _offset(unit: int) -> int:
    return (unit >> 10) << ((unit & 512) >> 6)
