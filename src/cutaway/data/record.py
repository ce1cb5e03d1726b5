"""The record of a tokenizer.json: which of our kinds it describes, and what it must not hold."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import tokenizers

from cutaway.data.spelling import BYTE_CHARACTERS, MARKS
from cutaway.errors import FileFormatError

ANY_CHARACTER = r"[\s\S]"
WORD_BORDER = " "
PAD, START, END, UNKNOWN = "<|pad|>", "<|start|>", "<|end|>", "<unk>"
Kind = Literal["bytes", "characters", "bpe", "marked"]


def kind_of(record: dict) -> Kind:
    """Which of our kinds a tokenizer.json describes, read from its structure."""
    model, cutter = record["model"], record["pre_tokenizer"] or {}
    if record["normalizer"] is not None:
        return "bpe"
    if model["type"] == "WordLevel" and cutter.get("pattern") == {"Regex": ANY_CHARACTER}:
        return "characters"
    if model["type"] == "WordLevel" and cutter.get("delimiter") == WORD_BORDER:
        joins = json.dumps(MARKS) in json.dumps(record["decoder"])
        return "marked" if joins and UNKNOWN in model["vocab"] else "bpe"
    unmerged = model["type"] == "BPE" and not model["merges"] and cutter.get("type") == "ByteLevel"
    if unmerged and all(model["vocab"].get(name) == value for value, name in enumerate(BYTE_CHARACTERS)):
        return "bytes"
    return "bpe"


def check_record(path: Path, record: object) -> None:
    """Refuses what the library would take without a word: ids used twice, or out of range."""
    model = record.get("model") if isinstance(record, dict) else None
    if not isinstance(model, dict):
        raise FileFormatError(path, "no `model` object; this is no tokenizer.json")
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        return
    ids = list(vocab.values())
    if not all(type(number) is int and 0 <= number < 2**31 for number in ids):
        raise FileFormatError(path, "model.vocab: every id must be a whole number from 0 to 2^31 - 1")
    if len(set(ids)) < len(ids):
        raise FileFormatError(path, "model.vocab: two tokens have the same id")


def around(inner: tokenizers.Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the special tokens that a tokenizer's template puts before and behind one text, int64."""
    found = inner.encode("a")
    inside = [place for place, number in enumerate(found.sequence_ids) if number is not None]
    ids = np.array(found.ids, np.int64)
    return (ids[: inside[0]], ids[inside[-1] + 1 :]) if inside else (ids[:0], ids[:0])
