"""Marian's vocabularies (OPUS-MT): two sentencepiece models that cut, and one `vocab.json` that counts.

A sentence is cut by `source.spm`, a translation by `target.spm`; the pieces' ids are those of `vocab.json`,
which holds both languages, and not the models' own. A sentence may begin with the language to translate to,
>>fr<<. A `vocab.json` for each language (`separate_vocabs`) is refused.
"""

import hashlib
import json
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from cutaway.data.tokenizer import Tokenizer
from cutaway.data.vocabularies.pieces import Pieces, pieces_tokenizer
from cutaway.data.vocabularies.rewriting import Rules, has_clusters
from cutaway.data.vocabularies.sentencepiece import read_sentencepiece
from cutaway.data.vocabularies.special import Special, ids_of, put_around
from cutaway.data.vocabularies.tables import check_ids, checked
from cutaway.errors import ConfigError, FileFormatError
from cutaway.store import read_object

LANGUAGE, BORDER = ">>", "<<"
DEFAULTS = {"unk_token": "<unk>", "eos_token": "</s>", "pad_token": "<pad>"}


class Counted(Tokenizer):
    """A tokenizer whose ids are those that a table gives its tokens: `target` cuts the other language.

    The inner tokenizer keeps ids of its own; pieces that the table lacks are unknown. Rules for characters
    are applied as sentencepiece does it, which is what transformers uses for Marian.
    """

    target: "Counted | None" = None

    def __init__(self, path: Path, pieces: Pieces, table: dict[str, int], roles: dict[str, str]):
        inner = pieces_tokenizer(path, pieces)
        inner.add_special_tokens([roles["eos_token"]])
        put_around(inner, [], [roles["eos_token"]])
        super().__init__(inner, None, pad=None, start=None, unknown=None)
        self.path, self.pieces = path, pieces
        own = self.names
        self.table = table
        self.names = {number: name for name, number in table.items()}
        self.vocab = max(self.names) + 1
        self._unknown, self._end, self.pad = (table[roles[role]] for role in DEFAULTS)
        self.unknown, self.end, self.start = self._unknown, self._end, self.pad
        self.ends = frozenset({self._end})
        self.special = {self._unknown, self._end, self.pad}
        counted = [table.get(own.get(number, ""), self._unknown) for number in range(max(own) + 1)]
        self._counted = np.array(counted, np.int64)

    @cached_property
    def digest(self) -> str:
        """Changes when, and only when, the tokenizer's definition changes."""
        return hashlib.sha256(json.dumps([self.record, self.table], sort_keys=True).encode()).hexdigest()

    def to_json(self) -> str:
        """Refused: no tokenizer.json can say this."""
        raise ConfigError(
            "a Marian vocabulary has no tokenizer.json: copy its source.spm, target.spm, vocab.json"
        )

    def encode_parts(self, parts: object) -> tuple[np.ndarray, np.ndarray]:
        """Refused: a translator holds no chats."""
        raise ConfigError("a Marian vocabulary has no control tokens that a text may hold")

    def enclose(self, ids: np.ndarray) -> np.ndarray:
        """Ids with the end token behind them."""
        return np.append(ids, self._end)

    def _encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        languages, rests = zip(*map(self._language, texts), strict=True) if texts else ((), ())
        found = super()._encode_batch(list(rests))
        for place, text in enumerate(rests):
            if self.pieces.charsmap and has_clusters(text):
                found[place] = self._unruled.encode(self._rules.apply(text))
        return [
            np.concatenate([np.array(language, np.int64), self._counted[ids]])
            for language, ids in zip(languages, found, strict=True)
        ]

    @cached_property
    def _rules(self) -> Rules:
        return Rules(self.path, self.pieces.charsmap)

    @cached_property
    def _unruled(self) -> Tokenizer:
        """The inner tokenizer without the rules, for texts to which they have been applied."""
        return Tokenizer(pieces_tokenizer(self.path, replace(self.pieces, charsmap=b"")), None)

    def _language(self, text: str) -> tuple[list[int], str]:
        """The id of the language that a sentence begins with, and the rest."""
        end = text.find(BORDER) if text.startswith(LANGUAGE) else -1
        if end < 0:
            return [], text
        end += len(BORDER)
        return [self.table.get(text[:end], self._unknown)], text[end:]


def read_marian(folder: Path, special: Special) -> Counted:
    """The tokenizer of sentences, with that of translations as its `target`.

    Raises InputMissingError where a file is missing, FileFormatError where one is wrong.
    """
    roles = DEFAULTS | {role: name for role, name in special.roles.items() if role in DEFAULTS}
    if checked(special.path, special.settings, "separate_vocabs", bool, False):
        raise FileFormatError(special.path, "separate_vocabs: a table for each language is not built")
    source, target = (
        _counted(folder / name, folder / "vocab.json", roles) for name in ("source.spm", "target.spm")
    )
    source.target = target
    for tokenizer in (source, target):
        ends, start = ids_of(special, tokenizer.names)
        tokenizer.ends |= ends
        tokenizer.start = tokenizer.pad if start is None else start
    return source


def _counted(model: Path, table: Path, roles: dict[str, str]) -> Counted:
    ids = check_ids(table, read_object(table))
    for role, name in roles.items():
        if name not in ids:
            raise FileFormatError(table, f"{role} {name!r} is no token of it: another model's vocabulary")
    return Counted(model, read_sentencepiece(model), ids, roles)
