"""The translation model every side builds, and the sentences every side translates.

Marian's layout of ids: 0 ends a sentence, 1 stands for what is unknown, the last one fills up and begins. Ids
are words of the standard library's source, lengths those of Multi30k: about 14 pieces, with a tail.
"""

import random
from dataclasses import dataclass

from benchmarks.shape import hashed_words

END, UNKNOWN = 0, 1
BEAM = 5


@dataclass(frozen=True)
class Translator:
    """A Marian-shaped encoder-decoder and the sentences of one call."""

    layers: int = 3
    heads: int = 8
    width: int = 256
    hidden: int = 512
    vocab: int = 8000
    sentences: int = 128
    batch: int = 32
    max_tokens: int = 60

    @property
    def pad(self) -> int:
        return self.vocab - 1


MARIAN = Translator()
TINY = Translator(layers=2, heads=4, width=64, hidden=96, vocab=512, sentences=8, batch=4)


def batches(shape: Translator) -> list[list[list[int]]]:
    """The sentences of one call, ended and not sorted, in batches."""
    draw = random.Random(0)
    lengths = [min(40, max(5, round(draw.lognormvariate(2.6, 0.3)))) for _ in range(shape.sentences)]
    ids = iter(hashed_words(sum(lengths), shape.vocab - 3))
    rows = [[next(ids) + 2 for _ in range(length)] + [END] for length in lengths]
    return [rows[first : first + shape.batch] for first in range(0, len(rows), shape.batch)]
