"""Text as characters: that it is text at all, and an id for each."""

import numpy as np

from cutaway.errors import LimitError


def as_utf8(text: str) -> bytes:
    """The bytes of a text; LimitError names half a surrogate pair, and its place."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as problem:
        half = text[problem.start]
        raise LimitError(
            f"character {half!r} at position {problem.start} is half a surrogate pair, not text"
        ) from None


class CharacterIds:
    """The ids of single characters, looked up all at once; `names` are the tokens by id."""

    def __init__(self, names: dict[int, str]):
        points = {ord(name): number for number, name in names.items() if len(name) == 1}
        self.known = max(names) + 1
        self.table = np.full(max(points, default=0) + 2, -1, np.int64)
        self.table[list(points)] = list(points.values())

    def encode(self, text: str) -> np.ndarray:
        """The id of each character, int64; LimitError names one that has none, and its place."""
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        ids = self.table[np.minimum(points, len(self.table) - 1)]
        if len(ids) and ids.min() < 0:
            position = int(np.argmax(ids < 0))
            raise LimitError(
                f"character {text[position]!r} at position {position} is not among the {self.known} this "
                "tokenizer knows: take it out, or train with bytes or bpe"
            )
        return ids
