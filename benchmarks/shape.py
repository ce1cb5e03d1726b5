"""The sizes every side builds, and the text every side trains on.

Token ids are words of the standard library's source, hashed into the vocabulary: real text statistics, the
same on every side, without a tokenizer or a download.
"""

import re
import sysconfig
import zlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shape:
    """A GPT-2 shaped model and the batch it is given."""

    layers: int = 12
    heads: int = 12
    width: int = 768
    vocab: int = 50257
    length: int = 512
    batch: int = 4

    @property
    def tokens(self) -> int:
        return self.batch * self.length


GPT2 = Shape()
TINY = Shape(layers=2, heads=4, width=64, vocab=1024, length=64, batch=2)


def hashed_words(count: int, vocab: int) -> list[int]:
    """The first `count` words and signs of the standard library's source, as ids below `vocab`."""
    ids: list[int] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        ids.extend(zlib.crc32(word.encode()) % vocab for word in re.findall(r"\w+|[^\w\s]|\n", text))
        if len(ids) >= count:
            return ids[:count]
    raise ValueError(f"the standard library has {len(ids)} words, {count} were asked for")


def batches(shape: Shape, count: int) -> list[list[list[int]]]:
    """`count` batches of `batch` rows with `length + 1` ids: inputs and, one further, targets."""
    row = shape.length + 1
    ids = hashed_words(count * shape.batch * row, shape.vocab)
    rows = [ids[start : start + row] for start in range(0, len(ids), row)]
    return [rows[start : start + shape.batch] for start in range(0, len(rows), shape.batch)]
