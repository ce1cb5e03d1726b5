"""The vocabulary of a llama2.c `tokenizer.bin`: sentencepiece's pieces and scores, without kinds and
settings.

Ids 0, 1 and 2 are `<unk>`, `<s>` and `</s>`, whatever the file writes there, and then come the 256 bytes;
spaces are written as spaces. Text is read with a space in front and joined best first, as its `run.c` does
it.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from cutaway.data.tokenizer import Tokenizer
from cutaway.data.vocabularies.pieces import (
    BYTE,
    BYTES,
    CONTROL,
    NORMAL,
    SPACE,
    UNKNOWN,
    Pieces,
    pieces_tokenizer,
)
from cutaway.data.vocabularies.special import put_around
from cutaway.errors import FileFormatError

UNK, BEGIN, END = "<unk>", "<s>", "</s>"
FIRST = 3 + len(BYTES)


def llama2c_vocabulary(
    pieces: Sequence[bytes | str], scores: Sequence[float], path: str | Path = "tokenizer.bin"
) -> Tokenizer:
    """The tokenizer of a tokenizer.bin's pieces and scores; `path` is for messages.

    Raises FileFormatError where they are no such vocabulary.
    """
    path = Path(path)
    if len(pieces) != len(scores) or len(pieces) <= FIRST:
        raise FileFormatError(
            path, f"{len(pieces)} pieces and {len(scores)} scores: must be as many, and more than {FIRST}"
        )
    if not all(math.isfinite(score) for score in scores):
        raise FileFormatError(path, "a score is not finite; fetch the file again")
    names = [_text(path, piece, number) for number, piece in enumerate(pieces)]
    if tuple(name.upper() for name in names[3:FIRST]) != tuple(name.upper() for name in BYTES):
        raise FileFormatError(path, f"pieces 3 to {FIRST - 1} are not the bytes <0x00> to <0xFF>")
    names[:FIRST] = [UNK, BEGIN, END, *BYTES]
    kinds = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(names) - FIRST)]
    inner = pieces_tokenizer(
        path,
        Pieces(
            tuple(names), tuple(map(float, scores)), tuple(kinds), "bpe", byte_fallback=True, squeeze=False
        ),
    )
    put_around(inner, [BEGIN], [])
    return Tokenizer(inner, END, pad=None, start=None, unknown=UNK, begin=BEGIN)


def _text(path: Path, piece: bytes | str, number: int) -> str:
    try:
        text = piece if isinstance(piece, str) else piece.decode("utf-8")
    except UnicodeDecodeError:
        raise FileFormatError(path, f"piece {number} is not UTF-8; fetch the file again") from None
    return text.replace(" ", SPACE)
