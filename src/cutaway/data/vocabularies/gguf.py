"""The vocabulary inside a GGUF file, from its metadata: the values under `tokenizer.ggml.*`, arrays of
numbers as lists or NumPy's.

model "gpt2": byte-level pairs with `merges`; "llama": pieces with scores, joined best first; "t5": unigram
pieces. `token_type` counts as sentencepiece does: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6
byte.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from cutaway.data.charsmap import check_charsmap
from cutaway.data.tokenizer import Tokenizer
from cutaway.data.vocabularies.bytelevel import LLAMA3_NAMES, byte_level_tokenizer, check_merges
from cutaway.data.vocabularies.pieces import (
    BYTE,
    NORMAL,
    SPACE,
    UNKNOWN,
    Pieces,
    add_pieces,
    pieces_tokenizer,
)
from cutaway.data.vocabularies.sentencepiece import KINDS
from cutaway.data.vocabularies.special import put_around
from cutaway.data.vocabularies.tables import MOST_IDS, check_name
from cutaway.errors import FileFormatError

PREFIX = "tokenizer.ggml."
ADDS_BEGIN = ("llama",)  # where the file does not say; so do Llama 3's
ADDS_END = ("t5",)


def gguf_vocabulary(metadata: Mapping[str, Any], path: str | Path = "GGUF metadata") -> Tokenizer:
    """The tokenizer of a GGUF file's metadata; `path` is for messages.

    Raises FileFormatError where a value is missing, of a wrong type or length, or names an id past the end.
    """
    read = _Metadata(Path(path), metadata)
    model = read.value("model", str, needed=True)
    names = read.names()
    kinds = read.kinds(len(names))
    match model:
        case "gpt2":
            inner = _byte_level(read, names, kinds)
        case "llama" | "t5":
            inner = _pieces(read, names, kinds, model)
        case _:
            raise FileFormatError(read.path, f"{PREFIX}model {model!r}: known are gpt2, llama, t5")
    roles = {
        role: None if number is None else names[number]
        for role, number in (
            ("begin", read.id("bos_token_id", len(names))),
            ("end", read.id("eos_token_id", len(names))),
            ("pad", read.id("padding_token_id", len(names))),
            ("unknown", read.id("unknown_token_id", len(names))),
        )
    }
    inner.add_special_tokens([name for name in dict.fromkeys(roles.values()) if name is not None])
    adds = model in ADDS_BEGIN or (model == "gpt2" and read.value("pre", str) in LLAMA3_NAMES)
    begin = read.value("add_bos_token", bool, adds) and roles["begin"]
    end = read.value("add_eos_token", bool, model in ADDS_END) and roles["end"]
    put_around(inner, [begin] if begin else [], [end] if end else [])
    turn = read.id("eot_token_id", len(names))
    return Tokenizer(
        inner,
        roles["end"],
        pad=roles["pad"],
        start=roles["pad"] if model == "t5" else None,
        unknown=roles["unknown"],
        begin=roles["begin"],
        ends=() if turn is None else (turn,),
    )


def _byte_level(read: "_Metadata", names: list[str], kinds: list[str]) -> tokenizers.Tokenizer:
    vocabulary = {name: number for number, name in enumerate(names)}
    merges = check_merges(read.path, enumerate(read.texts("merges")), vocabulary)
    pattern = read.value("pre", str, "default")
    architecture = read.metadata.get("general.architecture", "gpt2")
    if pattern == "default" and architecture != "gpt2":
        raise FileFormatError(
            read.path,
            f"{PREFIX}pre does not say how text is cut, nor does {str(architecture)[:40]!r}; convert the "
            "model anew",
        )
    prefix = read.value("add_space_prefix", bool, False)
    inner = byte_level_tokenizer(read.path, vocabulary, merges, pattern, prefix)
    add_pieces(inner, tuple(names), tuple(kinds))
    return inner


def _pieces(read: "_Metadata", names: list[str], kinds: list[str], model: str) -> tokenizers.Tokenizer:
    spaced = [
        name.replace(" ", SPACE) if kind == NORMAL else name for name, kind in zip(names, kinds, strict=True)
    ]
    for number, name in enumerate(spaced):
        names[number] = name
    unknown = read.id("unknown_token_id", len(names))
    if UNKNOWN not in kinds:
        kinds[unknown or 0] = UNKNOWN
    charsmap = read.raw("precompiled_charsmap")
    if charsmap:
        check_charsmap(read.path, charsmap)
    pieces = Pieces(
        tuple(names),
        tuple(read.scores(len(names))),
        tuple(kinds),
        "bpe" if model == "llama" else "unigram",
        byte_fallback=kinds.count(BYTE) == 256,
        charsmap=charsmap,
        prefix=read.value("add_space_prefix", bool, True),
        squeeze=read.value("remove_extra_whitespaces", bool, False),
    )
    return pieces_tokenizer(read.path, pieces)


class _Metadata:
    """The values under `tokenizer.ggml.`, each held against what it must be."""

    def __init__(self, path: Path, metadata: Mapping[str, Any]):
        self.path, self.metadata = path, metadata

    def value(self, key: str, kind: type, default: Any = None, *, needed: bool = False) -> Any:
        found = self.metadata.get(PREFIX + key)
        if found is None:
            if needed:
                raise FileFormatError(self.path, f"{PREFIX}{key} is missing: the file holds no vocabulary")
            return default
        if type(found) is not kind:
            raise FileFormatError(self.path, f"{PREFIX}{key}: {str(found)[:40]!r} must be {kind.__name__}")
        return found

    def many(self, key: str, kind: type | tuple[type, ...]) -> list:
        found = self.metadata.get(PREFIX + key)
        if found is None:
            return []
        if isinstance(found, list | tuple | np.ndarray) and len(found) > MOST_IDS:
            raise FileFormatError(self.path, f"{PREFIX}{key}: more than {MOST_IDS:,} values")
        found = found.tolist() if isinstance(found, np.ndarray) else found
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(found, list | tuple) or not all(type(one) in kinds for one in found):
            raise FileFormatError(self.path, f"{PREFIX}{key}: must be a list of {kinds[0].__name__}")
        return [*found]

    def texts(self, key: str) -> list[str]:
        return self.many(key, str)

    def names(self) -> list[str]:
        names = self.texts("tokens")
        if not names:
            raise FileFormatError(
                self.path, f"{PREFIX}tokens is missing or empty: the file holds no vocabulary"
            )
        seen: dict[str, int] = {}
        for number, name in enumerate(names):
            check_name(self.path, name, number)
            if name in seen:
                raise FileFormatError(self.path, f"tokens {seen[name]} and {number} are both {name!r}")
            seen[name] = number
        return names

    def kinds(self, size: int) -> list[str]:
        found = self.many("token_type", int)
        if found and len(found) != size:
            raise FileFormatError(self.path, f"{PREFIX}token_type: {len(found)} values for {size} tokens")
        for number, kind in enumerate(found):
            if not 1 <= kind <= len(KINDS):
                raise FileFormatError(
                    self.path, f"{PREFIX}token_type: token {number} is of unknown type {kind}"
                )
        return [KINDS[kind - 1] for kind in found] or [NORMAL] * size

    def scores(self, size: int) -> list[float]:
        found = self.many("scores", (float, int))
        if len(found) != size:
            raise FileFormatError(self.path, f"{PREFIX}scores: {len(found)} values for {size} tokens")
        if not all(math.isfinite(score) for score in found):
            raise FileFormatError(self.path, f"{PREFIX}scores: a score is not finite")
        return [float(score) for score in found]

    def raw(self, key: str) -> bytes:
        found = self.metadata.get(PREFIX + key)
        if isinstance(found, bytes):
            return found
        values = self.many(key, int)
        if not all(-128 <= value < 256 for value in values):
            raise FileFormatError(self.path, f"{PREFIX}{key}: a value is no byte")
        return bytes(value & 255 for value in values)

    def id(self, key: str, size: int) -> int | None:
        found = self.value(key, int)
        if found is not None and not 0 <= found < size:
            raise FileFormatError(self.path, f"{PREFIX}{key} is {found}, but there are {size} tokens")
        return found
