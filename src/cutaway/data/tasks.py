"""Pairs of a source and a target, and a task that makes them: strings to reverse or to sort.

The source begins with the symbol of the task, R or S: "Rhello" -> "olleh", "Shello" -> "ehllo". Every example
is a pure function of (seed, its number). Training never draws a string of a held-out length, nor one that a
hash, the same for every seed, holds out (one in sixteen); two other streams draw nothing but those.

B batch   M source position   L target position
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from cutaway.data.mixing import mix, seed_key
from cutaway.data.record import END, PAD, START
from cutaway.data.tokenizer import Tokenizer, character_tokenizer
from cutaway.errors import ConfigError

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
TASKS = "RS"
PAD_ID, START_ID, END_ID = 0, 1, 2
REVERSE_ID, SORT_ID = 3, 4
FIRST_LETTER_ID = 5
HELD_SHARE = 16
TRAIN, STRINGS, LENGTHS = 1, 2, 3


@dataclass(frozen=True)
class Pairs:
    """A batch of pairs, padded on the right: the target begins with a start and ends with an end token.

    Shapes: source_BM and target_BL int64, their lengths (start and end included) int64 (B,).
    """

    source_BM: np.ndarray
    source_lengths_B: np.ndarray
    target_BL: np.ndarray
    target_lengths_B: np.ndarray


@dataclass(frozen=True)
class StringTask:
    """Strings of `shortest` to `longest` of the first `letters` letters, to be reversed or sorted.

    `held_out_lengths`, up to three between the two, follow from them.
    """

    seed: int
    letters: int = 26
    shortest: int = 1
    longest: int = 20
    held_out_lengths: tuple[int, ...] = field(init=False)  # a field, so that the record's text tells them

    def __post_init__(self):
        if not 2 <= self.letters <= len(ALPHABET):
            raise ConfigError(f"letters {self.letters}: must be 2 to {len(ALPHABET)}")
        if not 1 <= self.shortest <= self.longest:
            raise ConfigError(
                f"shortest {self.shortest}, longest {self.longest}: need 1 <= shortest <= longest"
            )
        object.__setattr__(self, "held_out_lengths", lengths_between(self.shortest, self.longest))

    @property
    def vocab(self) -> int:
        return FIRST_LETTER_ID + self.letters

    @property
    def train_lengths(self) -> tuple[int, ...]:
        lengths = range(self.shortest, self.longest + 1)
        return tuple(length for length in lengths if length not in self.held_out_lengths)

    def tokenizer(self) -> Tokenizer:
        """The ids of the task as a character tokenizer, for text that people type."""
        return character_tokenizer(TASKS + ALPHABET[: self.letters], special=(PAD, START, END))

    def batch_at(self, step: int, batch: int, rows: slice = slice(None)) -> Pairs:
        """The training batch of a step, or some of its rows."""
        return self._draw(TRAIN, step, batch, rows, self.train_lengths, lambda held_B: ~held_B)

    def unseen_strings(self, step: int, batch: int) -> Pairs:
        """A batch of strings of training lengths that training never draws."""
        return self._draw(STRINGS, step, batch, slice(None), self.train_lengths, lambda held_B: held_B)

    def unseen_lengths(self, step: int, batch: int) -> Pairs:
        """A batch of strings of the lengths that training never draws."""
        return self._draw(LENGTHS, step, batch, slice(None), self.held_out_lengths, np.ones_like)

    def _draw(
        self,
        stream: int,
        step: int,
        batch: int,
        rows: slice,
        lengths: tuple[int, ...],
        accept: Callable[[np.ndarray], np.ndarray],
    ) -> Pairs:
        numbers_B = (step * batch + np.arange(batch, dtype=np.uint64))[rows]
        keys_B = mix(mix(seed_key(self.seed) + np.uint64(stream)) + numbers_B)
        length_B, task_B, letter_BM = self._strings(keys_B, lengths)
        refused = ~accept(_held_out(letter_BM))
        while refused.any():
            keys_B[refused] = mix(keys_B[refused])
            length_B, task_B, letter_BM = self._strings(keys_B, lengths)
            refused = ~accept(_held_out(letter_BM))
        return _pairs(length_B, task_B, letter_BM)

    def _strings(self, keys_B: np.ndarray, lengths: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Lengths, tasks and letters for each key; PAD_ID beyond the length."""
        length_B = np.array(lengths)[(mix(keys_B + np.uint64(1)) % np.uint64(len(lengths))).astype(np.int64)]
        task_B = np.where(mix(keys_B + np.uint64(2)) % np.uint64(2), SORT_ID, REVERSE_ID)
        places_M = np.arange(self.longest)
        random_BM = mix(mix(keys_B + np.uint64(3))[:, None] + places_M.astype(np.uint64))
        letter_BM = (random_BM % np.uint64(self.letters)).astype(np.int64) + FIRST_LETTER_ID
        return length_B, task_B, np.where(places_M < length_B[:, None], letter_BM, PAD_ID)


def lengths_between(shortest: int, longest: int) -> tuple[int, ...]:
    """The lengths that training leaves out, three fixed shares of the way up: 7, 12, 17 of 1 to 20.

    Neither end is among them. Raises ConfigError where nothing lies between.
    """
    count = longest - shortest + 1
    found = sorted({shortest + count * share // 20 for share in (6, 11, 16)} - {shortest, longest})
    if not found:
        raise ConfigError(
            f"data.longest: {longest} leaves no length after shortest, {shortest}, to keep from training; "
            f"give at least {shortest + 2}"
        )
    return tuple(found)


def _pairs(length_B: np.ndarray, task_B: np.ndarray, letter_BM: np.ndarray) -> Pairs:
    B, longest = letter_BM.shape
    rows_B1, places_M = np.arange(B)[:, None], np.arange(longest)
    inside_BM = places_M < length_B[:, None]
    mirrored_BM = letter_BM[rows_B1, np.where(inside_BM, length_B[:, None] - 1 - places_M, places_M)]
    last = np.iinfo(np.int64).max
    ordered_BM = np.sort(np.where(inside_BM, letter_BM, last), axis=1)
    answer_BM = np.where(task_B[:, None] == REVERSE_ID, mirrored_BM, ordered_BM)
    target_BL = np.full((B, longest + 2), PAD_ID)
    target_BL[:, 0] = START_ID
    target_BL[:, 1:-1] = np.where(inside_BM, answer_BM, PAD_ID)
    target_BL[rows_B1[:, 0], length_B + 1] = END_ID
    return Pairs(np.concatenate([task_B[:, None], letter_BM], axis=1), length_B + 1, target_BL, length_B + 2)


def _held_out(letter_BM: np.ndarray) -> np.ndarray:
    """Which strings are kept from training, by a hash of their letters alone."""
    hash_B = np.zeros(len(letter_BM), np.uint64)
    for letter_B in letter_BM.T:
        hash_B = np.where(letter_B == PAD_ID, hash_B, mix(hash_B ^ letter_B.astype(np.uint64)))
    return hash_B % np.uint64(HELD_SHARE) == 0
