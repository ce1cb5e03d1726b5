"""How a model reads a text, and how a pair begins to write: one rule for everything that reads and writes."""

from collections.abc import Iterable

import numpy as np

from cutaway.data.record import START, around
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import LimitError


def begin_token(tokenizer: Tokenizer) -> int:
    """The id that every target of an encoder-decoder begins with; LimitError where the tokenizer has none."""
    if tokenizer.start is None:
        raise LimitError(
            f"this tokenizer has no {START}, with which an encoder-decoder begins to write: add that token"
        )
    return tokenizer.start


def front_ids(tokenizer: Tokenizer) -> list[int]:
    """The ids that the tokenizer's template puts in front of a text, as Llama's `<s>`."""
    return [] if tokenizer.record["post_processor"] is None else around(tokenizer.inner)[0].tolist()


def source_ids(tokenizer: Tokenizer, text: str) -> np.ndarray:
    """What an encoder reads of a text, int64: its ids, and behind them the end token where the tokenizer's
    template has one: translations have it, strings to be reversed have not.
    """
    ids = tokenizer.encode(text)
    template = (tokenizer.record["post_processor"] or {}).get("single") or [{}]
    if "SpecialToken" not in template[-1] or tokenizer.end is None:
        return ids
    return np.append(ids, tokenizer.end)


def target_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """What cuts a target: Marian's vocabularies have a model of pieces for each language, others one."""
    return getattr(tokenizer, "target", None) or tokenizer


def borders(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids in front of and behind a text that is read as a whole: those of the tokenizer's template, as
    BERT has one, or the end token on both sides.
    """
    if tokenizer.kind != "bpe" or tokenizer.record["post_processor"] is None:
        end = [] if tokenizer.end is None else [tokenizer.end]
        return end, end
    before, after = around(tokenizer.inner)
    return before.tolist(), after.tolist()


def template_ids(tokenizer: Tokenizer, text: str, length: int | None = None) -> np.ndarray:
    """The ids of a text that is read as a whole, between its `borders`, int64, at most `length` in all.

    Raises LimitError where that leaves no room for the text.
    """
    return between_borders(tokenizer, [tokenizer.encode(text)], length)[0]


def between_borders(
    tokenizer: Tokenizer, rows: Iterable[np.ndarray], length: int | None = None
) -> list[np.ndarray]:
    """The ids of each text between the `borders`; raises as `template_ids`."""
    before, after = borders(tokenizer)
    room = None if length is None else length - len(before) - len(after)
    if room is not None and room < 1:
        raise LimitError(f"length {length} leaves no room for a token between the template's")
    return [np.concatenate([before, ids[:room], after]).astype(np.int64) for ids in rows]
