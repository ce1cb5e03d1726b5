"""Tokenizers: text to integer ids and back.

Four kinds of our own, each kept as a `tokenizer.json` of the tokenizers library, as Hugging Face reads it.
bytes: the id is the value of the UTF-8 byte; 256 is the end token; any text.
characters: an id for each distinct character, in sorted order, and no end token, as nanoGPT has it.
bpe: byte-level byte-pair encoding, subwords (Sennrich et al. 2016, Radford et al. 2019), the last id ends a
document; any text. A tokenizer.json of another origin counts as this kind.
marked: an id for each piece of a text that subword-nmt has cut, and `<unk>` for all others (`data.pairing`).

Text never turns into a special token: `<|end|>` written in a text is seven ordinary characters.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from cutaway.data.characters import CharacterIds, as_utf8
from cutaway.data.cutting import before_newlines, cuts_like_gpt2
from cutaway.data.record import (
    ANY_CHARACTER,
    END,
    PAD,
    START,
    UNKNOWN,
    WORD_BORDER,
    Kind,
    around,
    kind_of,
)
from cutaway.data.shielding import Doubles, control_names, control_table, spelled_unknown, tag_names
from cutaway.data.spelling import BYTE_CHARACTERS, Spelling, join_marks, speller
from cutaway.data.text import Document
from cutaway.errors import ConfigError, InputMissingError, LimitError, nearest

BATCH_CHARACTERS = 2**22  # bounds the memory of the library's results, about 100 bytes a token
KINDS = ("bytes", "characters", "bpe")


class Tokenizer:
    """Text to ids and back: `vocab` ids in all.

    `end` closes a document, and each of `ends` does; `begin` stands before it where the model wants that,
    `pad` fills a batch up, `start` begins a target, `unknown` stands for pieces without an id; each is None
    where the tokenizer has none. All are given by their tokens' names, further `ends` as ids.
    """

    pad: int | None
    start: int | None
    end: int | None
    unknown: int | None
    begin: int | None

    def __init__(
        self,
        inner: tokenizers.Tokenizer,
        end: str | None = END,
        *,
        pad: str | None = PAD,
        start: str | None = START,
        unknown: str | None = UNKNOWN,
        begin: str | None = None,
        ends: Iterable[int] = (),
    ):
        inner.no_truncation()
        inner.no_padding()
        inner.encode_special_tokens = True
        self.inner = inner
        self.record = json.loads(inner.to_str())
        self.names = {number: name for name, number in inner.get_vocab(with_added_tokens=True).items()}
        self.vocab: int = max(self.names) + 1
        named = (pad, start, end, unknown, begin)
        ids = (None if name is None else inner.token_to_id(name) for name in named)
        self.pad, self.start, self.end, self.unknown, self.begin = ids
        self.ends = frozenset([*ends, *([] if self.end is None else [self.end])])
        self.special = {entry["id"] for entry in self.record["added_tokens"] if entry["special"]}
        self.kind: Kind = kind_of(self.record)

    @cached_property
    def digest(self) -> str:
        """Changes when, and only when, the tokenizer's definition changes."""
        return hashlib.sha256(json.dumps(self.record, sort_keys=True).encode()).hexdigest()

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text, int64; LimitError names a character that has none, and its place."""
        match self.kind:
            case "bytes":
                return np.frombuffer(as_utf8(text), np.uint8).astype(np.int64)
            case "characters":
                return self._characters.encode(text)
            case "marked":
                return self._encode_marked(text)
            case "bpe":
                return np.concatenate([np.empty(0, np.int64), *self._encode_batch(self._pieces(text))])

    def encode_documents(self, documents: Iterable[Document]) -> Iterator[np.ndarray]:
        """The ids of each document in turn, int64, without end tokens; on all cores, many at a time."""
        if self.kind != "bpe":
            for document in documents:
                try:
                    yield self.encode(document.text)
                except LimitError as problem:
                    raise LimitError(f"{document.name}: {problem}") from None
            return
        batch: list[list[str]] = []
        size = 0
        for document in documents:
            batch.append(self._pieces(document.text))
            size += len(document.text)
            if size >= BATCH_CHARACTERS:
                yield from self._encode_pieces(batch)
                batch, size = [], 0
        yield from self._encode_pieces(batch)

    def encode_parts(self, parts: Sequence[str | int]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of a text with control tokens in it, int64, and the characters (n, 2) each stands for.

        A string is plain text, whatever it says; an int is the id of a control token (`controls`), and counts
        as one character. LimitError for an id of another kind.
        """
        if self.kind in ("characters", "marked"):
            raise ConfigError(f"a tokenizer of {self.kind} reads no control tokens: it needs bytes or bpe")
        double, letters = self._shields.for_texts([part for part in parts if isinstance(part, str)])
        for part in parts:
            if not isinstance(part, str) and self.names.get(part) not in letters:
                raise LimitError(f"token {part} is no control token: only those can be put into a text")
        text = "".join(part if isinstance(part, str) else letters[self.names[part]] for part in parts)
        as_utf8(text)
        found = double.encode(text, add_special_tokens=False)
        return np.array(found.ids, np.int64), np.array(found.offsets, np.int64).reshape(-1, 2)

    @property
    def controls(self) -> tuple[str, ...]:
        """The tokens that `encode_parts` reads from no text: the special ones, and what looks like a tag."""
        return self._shields.names

    def enclose(self, ids: np.ndarray) -> np.ndarray:
        """Ids between the special tokens that the tokenizer's template puts around one text, if any."""
        before, after = around(self.inner)
        return np.concatenate([before, ids, after])

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids; special tokens have none, bytes that are not UTF-8 become U+FFFD."""
        data = self.decode_bytes(ids)
        first = next((number for number in map(int, ids) if number not in self.special), None)
        if first is not None and self.kind != "marked":
            data = self.first_bytes(first) + data[len(self.token_bytes(first)) :]
        return data.decode("utf-8", "replace")

    def first_bytes(self, number: int) -> bytes:
        """The bytes of a token that begins a text: some vocabularies drop the space in front of it there."""
        if number in self.special or number not in self.names:
            return self.token_bytes(number)
        return self._spelling.first(self.names[number])

    def decode_bytes(self, ids: Sequence[int] | np.ndarray) -> bytes:
        """The bytes of ids, one token's after the other's: exact even in the middle of a character.

        Of marked text without the space that would follow the last word.
        """
        pieces = [self.token_bytes(int(number)) for number in ids]
        if self.kind == "marked":
            names = [self.names[number] for number in map(int, ids) if number not in self.special]
            return join_marks(WORD_BORDER.join(names)).encode()
        return b"".join(pieces)

    def token_bytes(self, number: int) -> bytes:
        """The bytes one token stands for, none for a special one; LimitError where there is no such id."""
        found = self._bytes.get(number)
        if found is None:
            raise LimitError(
                f"token {number}: the tokenizer has ids 0 to {self.vocab - 1}; wrong tokenizer for the run?"
            )
        return found

    def token_name(self, number: int) -> str:
        """What to show for a token: its text, or its name where it is special or not whole characters."""
        data = self.token_bytes(number)
        try:
            return data.decode("utf-8") or self.names[number]
        except UnicodeDecodeError:
            return "".join(f"<{value:02x}>" for value in data)

    def to_json(self) -> str:
        """The text of `tokenizer.json`."""
        return self.inner.to_str(pretty=True)

    @cached_property
    def _spelling(self) -> Spelling:
        return speller(self.record)

    @cached_property
    def _bytes(self) -> dict[int, bytes]:
        spell = self._spelling.inside
        return {number: b"" if number in self.special else spell(name) for number, name in self.names.items()}

    def _encode_marked(self, text: str) -> np.ndarray:
        as_utf8(text)
        pieces = [piece for piece in text.split(WORD_BORDER) if piece]
        return np.array([self._piece_ids.get(piece, self.unknown) for piece in pieces], np.int64)

    @cached_property
    def _piece_ids(self) -> dict[str, int]:
        return {name: number for number, name in self.names.items() if number not in self.special}

    def _pieces(self, text: str) -> list[str]:
        """A long text in pieces that encode independently, where that is known to be right."""
        as_utf8(text)
        return before_newlines(text) if self._cuts_like_gpt2 else [text]

    _characters = cached_property(lambda self: CharacterIds(self.names))
    _cuts_like_gpt2 = cached_property(lambda self: cuts_like_gpt2(self.record))

    def _encode_pieces(self, batch: list[list[str]]) -> Iterator[np.ndarray]:
        encoded = iter(self._encode_batch([piece for pieces in batch for piece in pieces]))
        for pieces in batch:
            yield np.concatenate([next(encoded) for _ in pieces])

    def _encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self.inner.encode_batch_fast(texts, add_special_tokens=False)
        found = [np.array(encoding.ids, np.int64) for encoding in encodings]
        for place, ids in enumerate(found):
            if self._is_control[ids].any() or spelled_unknown(self.record, texts[place]):
                # the model itself took text for a special token
                double, _ = self._doubles.for_texts([texts[place]])
                found[place] = np.array(double.encode(texts[place], add_special_tokens=False).ids, np.int64)
        return found

    @cached_property
    def _is_control(self) -> np.ndarray:
        return control_table(self.record, self.inner.get_vocab(with_added_tokens=True).values())

    @cached_property
    def _doubles(self) -> Doubles:
        return Doubles(self.record, control_names(self.record))

    @cached_property
    def _shields(self) -> Doubles:
        return Doubles(self.record, [*control_names(self.record), *tag_names(self.record)])


def byte_tokenizer() -> Tokenizer:
    """One id for each byte, 256 for the end of a document."""
    inner = byte_level(dict(zip(BYTE_CHARACTERS, range(256), strict=True)), use_regex=False)
    inner.add_special_tokens([END])
    return Tokenizer(inner)


def character_tokenizer(characters: Iterable[str], special: Sequence[str] = ()) -> Tokenizer:
    """One id for each character: the special tokens first, then the characters in sorted order."""
    names = [*special, *sorted(set(characters))]
    if not names:
        raise InputMissingError("a character tokenizer needs text with at least one character")
    inner = tokenizers.Tokenizer(
        models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>")
    )
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(ANY_CHARACTER), "isolated")
    inner.decoder = decoders.Fuse()
    inner.add_special_tokens(list(special))
    return Tokenizer(inner)


def subword_tokenizer(texts: Iterable[str], vocab: int) -> Tokenizer:
    """Byte-level byte-pair encoding with at most `vocab` ids: fewer where the texts have too few pairs."""
    if vocab < 257:
        raise ConfigError(f"vocab {vocab}: tokenizer bpe needs at least 257 (256 bytes and the end token)")
    inner = byte_level({}, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab - 1, initial_alphabet=BYTE_CHARACTERS, special_tokens=[], show_progress=False
    )
    inner.train_from_iterator(texts, trainer)
    inner.add_special_tokens([END])
    return Tokenizer(inner)


def train_tokenizer(kind: str, texts: Iterable[str], vocab: int | None = None) -> Tokenizer:
    """A tokenizer of the kind named in a recipe: bytes, characters or bpe; only bpe takes `vocab`."""
    match kind:
        case "bytes":
            return byte_tokenizer()
        case "characters":
            return character_tokenizer({character for text in texts for character in set(text)})
        case "bpe":
            if vocab is None:
                raise ConfigError("tokenizer bpe: vocab is missing, for example vocab = 4096")
            return subword_tokenizer(texts, vocab)
        case _:
            raise ConfigError(f"tokenizer {kind!r}: unknown kind; {nearest(kind, KINDS)}")


def byte_level(vocab: dict[str, int], use_regex: bool) -> tokenizers.Tokenizer:
    """Bytes as the smallest pieces; `use_regex` keeps merges within words."""
    inner = tokenizers.Tokenizer(models.BPE(vocab, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    inner.decoder = decoders.ByteLevel()
    return inner
