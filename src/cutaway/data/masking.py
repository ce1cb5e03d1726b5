"""Which tokens of a row are hidden: a pure function of (seed, step, row), with no state.

literal: each token is hidden with the chance `share`, and the mask stands for it (algorithm 12 of Phuong &
Hutter 2022). bert: `share` of a row's tokens are chosen, at least one; of these the mask stands for 80 %,
any ordinary token for 10 %, and 10 % stay as they are (Devlin et al. 2018, section 3.1 and appendix A.1).
What was hidden or chosen is asked for. Special tokens are never hidden, nor put in another's place.

B batch   L position
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import tokenizers

from cutaway.data.mixing import mix, seed_key
from cutaway.data.tokenizer import Tokenizer

MASK = "<|mask|>"
MASKS = (MASK, "[MASK]")
STREAM = 12  # keeps these random numbers apart from those of the batches
HIDDEN, KIND, OTHER = 1, 2, 3  # what a random number is for, so that no two uses share one
MASKED, REPLACED = 0.8, 0.1
Rule = Literal["literal", "bert"]


@dataclass(frozen=True)
class Masks:
    """How rows are hidden: the rule, the share, the mask's id, and which ids are ordinary tokens."""

    rule: Rule
    share: float
    mask: int
    ordinary: np.ndarray
    seed: int

    def hide(self, tokens_BL: np.ndarray, step: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """What is read in place of int64 ids (B, L), and where a token is asked for, bool (B, L).

        The rows are those from `first` on of the step.
        """
        rows_B = np.arange(first, first + len(tokens_BL), dtype=np.uint64)
        keys_B = mix(mix(mix(seed_key(self.seed) + np.uint64(STREAM)) + np.uint64(step)) + rows_B)
        open_BL = np.isin(tokens_BL, self.ordinary)
        hidden_BL = _draw(keys_B, HIDDEN, tokens_BL.shape[1])
        if self.rule == "literal":
            chosen_BL = open_BL & (_chance(hidden_BL) < self.share)
            return np.where(chosen_BL, self.mask, tokens_BL), chosen_BL
        chosen_BL = _lowest(hidden_BL, open_BL, self.share)
        kind_BL = _chance(_draw(keys_B, KIND, tokens_BL.shape[1]))
        places_BL = _draw(keys_B, OTHER, tokens_BL.shape[1]) % np.uint64(len(self.ordinary))
        read_BL = np.where(kind_BL < MASKED + REPLACED, self.ordinary[places_BL.astype(np.int64)], tokens_BL)
        read_BL = np.where(kind_BL < MASKED, self.mask, read_BL)
        return np.where(chosen_BL, read_BL, tokens_BL), chosen_BL


def _draw(keys_B: np.ndarray, use: int, length: int) -> np.ndarray:
    """A random number for each position, uint64 (B, L)."""
    places_L = np.arange(length, dtype=np.uint64)
    return mix(mix(keys_B + np.uint64(use << 32))[:, None] + places_L)


def _chance(numbers_BL: np.ndarray) -> np.ndarray:
    """Random bits as evenly spread numbers in [0, 1)."""
    return (numbers_BL >> np.uint64(11)) * 2.0**-53


def _lowest(numbers_BL: np.ndarray, open_BL: np.ndarray, share: float) -> np.ndarray:
    """Where the lowest numbers of a row are: `share` of its open places, rounded, and one at least if any."""
    count_B = open_BL.sum(1)
    most_B = np.minimum(np.maximum(np.rint(share * count_B), 1), count_B)
    order_BL = np.argsort(np.where(open_BL, _chance(numbers_BL), 2.0), axis=1, kind="stable")
    rank_BL = np.argsort(order_BL, axis=1, kind="stable")
    return rank_BL < most_B[:, None]


def with_mask(known: Tokenizer) -> Tokenizer:
    """The tokenizer with a mask token: itself where it has one, otherwise with one more id."""
    if mask_id(known) is not None:
        return known
    inner = tokenizers.Tokenizer.from_str(known.inner.to_str())
    inner.add_special_tokens([MASK])
    return Tokenizer(inner)


def mask_id(known: Tokenizer) -> int | None:
    """The id of the mask token, ours or BERT's, None where the tokenizer has none."""
    found = (known.inner.token_to_id(name) for name in MASKS)
    return next((number for number in found if number in known.special), None)


def ordinary_ids(known: Tokenizer) -> np.ndarray:
    """The ids that stand for text, int64, in order."""
    return np.array(sorted(known.names.keys() - known.special), np.int64)
