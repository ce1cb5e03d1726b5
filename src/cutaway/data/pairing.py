"""Tokenizers for both sides of a pair: one vocabulary for two languages, and text that is cut already.

joint: one byte-level byte-pair encoding over the texts of both sides (Sennrich et al. 2016).
marked: the pieces of a text as subword-nmt cuts it, with `@@` where a word goes on: "a pul@@ ley". `Codes`
cuts words so: beginning with characters, the last one marked `</w>`, the pair of neighbours that was learned
earliest is joined, until none is left that was (algorithm 1 of Sennrich et al. 2016, applied).
Pad, start, end and, for marked text, `<unk>` have the first ids, in this order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import inf
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, processors, trainers

from cutaway.data.record import END, PAD, START, UNKNOWN, WORD_BORDER
from cutaway.data.spelling import BYTE_CHARACTERS, MARK, MARKS
from cutaway.data.text import Document, decode_text, read_bytes
from cutaway.data.tokenizer import Tokenizer, byte_level
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError

SPECIAL = (PAD, START, END)
VERSION = "#version: 0.2"
WORD_END = "</w>"
LONGEST_WORD = 1_000  # characters


def joint_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Byte-pair encoding with at most `vocab` ids of the texts of both sides; encodes any text."""
    least = len(SPECIAL) + len(BYTE_CHARACTERS)
    if vocab < least:
        raise ConfigError(f"data.vocab: {vocab}, but tokenizer bpe needs at least {least} for two languages")
    inner = byte_level({}, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, initial_alphabet=BYTE_CHARACTERS, special_tokens=list(SPECIAL), show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    return Tokenizer(ending(inner))


def marked_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """An id for each piece of texts that are cut already, in sorted order, and one for all other pieces."""
    pieces = {piece for text in texts for piece in text.split(WORD_BORDER) if piece}
    if not pieces:
        raise InputMissingError("a marked tokenizer needs text with at least one word")
    names = [*SPECIAL, UNKNOWN, *sorted(pieces - {*SPECIAL, UNKNOWN})]
    inner = tokenizers.Tokenizer(
        models.WordLevel({name: number for number, name in enumerate(names)}, unk_token=UNKNOWN)
    )
    inner.pre_tokenizer = pre_tokenizers.CharDelimiterSplit(WORD_BORDER)
    spaced = decoders.WordPiece(prefix="\0", cleanup=False)  # no piece begins so: a space before each
    inner.decoder = decoders.Sequence([spaced, decoders.Fuse(), decoders.Replace(Regex(MARKS), "")])
    inner.add_special_tokens(list(SPECIAL))
    return Tokenizer(ending(inner))


def ending(inner: tokenizers.Tokenizer) -> tokenizers.Tokenizer:
    """The same with a template that puts the end token behind a source, as Hugging Face reads it."""
    inner.post_processor = processors.TemplateProcessing(
        single=f"$A {END}", special_tokens=[(END, inner.token_to_id(END))]
    )
    return inner


class Lowering(Tokenizer):
    """A tokenizer that reads every text in lower case, as those it learned from were read."""

    def encode(self, text: str) -> np.ndarray:
        return super().encode(text.lower())

    def encode_documents(self, documents: Iterable[Document]) -> Iterator[np.ndarray]:
        return super().encode_documents(replace(each, text=each.text.lower()) for each in documents)


class Codes:
    """The merges subword-nmt learned, and what they make of a sentence; of equal lines the first counts.

    Raises InputMissingError where the file is missing, FileFormatError where it is not such a file.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if not path.is_file():
            what = "a folder" if path.is_dir() else "no such file"
            raise InputMissingError(f"{path}: {what}; name the codes that subword-nmt learned")
        version, *lines = decode_text(read_bytes(path), path).removesuffix("\n").split("\n")
        if version.rstrip("\r") != VERSION:
            raise FileFormatError(path, f"line 1: must be {VERSION!r}; learn the codes with subword-nmt 0.3")
        self.ranks: dict[tuple[str, str], int] = {}
        for rank, line in enumerate(lines):
            pieces = line.rstrip("\r").split(" ")
            if len(pieces) != 2 or not all(pieces):
                raise FileFormatError(
                    path,
                    f"line {rank + 2}: {line[:40]!r} is not two pieces with a space between; learn again",
                )
            self.ranks.setdefault((pieces[0], pieces[1]), rank)
        self._cut = lru_cache(maxsize=2**16)(self._cut_word)

    def apply(self, sentence: str) -> str:
        """The sentence in pieces, those within a word marked: "a pulley" becomes "a pul@@ ley".

        As in subword-nmt, spaces in front and behind stay, and between words one is left of several. Raises
        LimitError for a word of more than LONGEST_WORD characters, of which cutting takes the square.
        """
        words = sentence.strip(" ")
        if not words:
            return sentence
        if (longest := max(map(len, words.split(" ")))) > LONGEST_WORD:
            raise LimitError(
                f"a word of {longest:,} characters, but at most {LONGEST_WORD:,} are cut: put spaces into it"
            )
        before, _, after = sentence.partition(words)
        return before + " ".join(self._cut(word) for word in words.split(" ") if word) + after

    def _cut_word(self, word: str) -> str:
        pieces = [*word[:-1], word[-1] + WORD_END]
        while len(pieces) > 1:
            first = min(pairwise(pieces), key=lambda pair: self.ranks.get(pair, inf))
            if first not in self.ranks:
                break
            pieces = _joined(pieces, first)
        return (MARK + " ").join(pieces).removesuffix(WORD_END)


def _joined(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """The pieces with every occurrence of the pair made one, from left to right."""
    joined, place = [], 0
    while place < len(pieces):
        together = tuple(pieces[place : place + 2]) == pair
        joined.append("".join(pair) if together else pieces[place])
        place += 2 if together else 1
    return joined
