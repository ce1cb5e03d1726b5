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
from pathlib import Path

import numpy as np
import tokenizers
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from cutaway.data.record import (
    ANY_CHARACTER,
    END,
    PAD,
    START,
    UNKNOWN,
    WORD_BORDER,
    Kind,
    check_record,
    kind_of,
)
from cutaway.data.spelling import BYTE_CHARACTERS, join_marks, speller
from cutaway.data.text import Document
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError, nearest

PIECE_CHARACTERS = 2**16
BATCH_CHARACTERS = 2**22  # bounds the memory of the library's results, about 100 bytes a token
MOST_FILE_BYTES = 2**28
KINDS = ("bytes", "characters", "bpe")


class Tokenizer:
    """Text to ids and back: `vocab` ids in all.

    `end` closes a document, `pad` fills a batch up, `start` begins a target, `unknown` stands for pieces
    without an id; each is None where the tokenizer has none.
    """

    def __init__(self, inner: tokenizers.Tokenizer, end: str = END):
        inner.no_truncation()
        inner.no_padding()
        inner.encode_special_tokens = True
        self.inner = inner
        self.record = json.loads(inner.to_str())
        self.names = {number: name for name, number in inner.get_vocab(with_added_tokens=True).items()}
        self.vocab: int = max(self.names) + 1
        self.pad, self.start, self.end, self.unknown = map(inner.token_to_id, (PAD, START, end, UNKNOWN))
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
                return np.frombuffer(_utf8(text), np.uint8).astype(np.int64)
            case "characters":
                return self._encode_characters(text)
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

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """The text of ids; special tokens have none, bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

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
    def _bytes(self) -> dict[int, bytes]:
        spell = speller(self.record)
        return {number: b"" if number in self.special else spell(name) for number, name in self.names.items()}

    @cached_property
    def _character_ids(self) -> np.ndarray:
        points = {ord(name): number for number, name in self.names.items() if len(name) == 1}
        table = np.full(max(points, default=0) + 2, -1, np.int64)
        table[list(points)] = list(points.values())
        return table

    def _encode_characters(self, text: str) -> np.ndarray:
        points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        table = self._character_ids
        ids = table[np.minimum(points, len(table) - 1)]
        if len(ids) and ids.min() < 0:
            position = int(np.argmax(ids < 0))
            raise LimitError(
                f"character {text[position]!r} at position {position} is not among the {self.vocab} this "
                "tokenizer knows: take it out, or train with bytes or bpe"
            )
        return ids

    def _encode_marked(self, text: str) -> np.ndarray:
        _utf8(text)
        pieces = [piece for piece in text.split(WORD_BORDER) if piece]
        return np.array([self._piece_ids.get(piece, self.unknown) for piece in pieces], np.int64)

    @cached_property
    def _piece_ids(self) -> dict[str, int]:
        return {name: number for number, name in self.names.items() if number not in self.special}

    def _pieces(self, text: str) -> list[str]:
        """A long text in pieces that encode independently; only where the pre-tokenizer is known to allow it.

        GPT-2's pattern ends a word before any newline that follows something other than white space, and
        looks at nothing before the place where it stands.
        """
        _utf8(text)
        if not self._cuts_like_gpt2:
            return [text]
        pieces, start = [], 0
        while len(text) - start > PIECE_CHARACTERS:
            cut = start + PIECE_CHARACTERS
            while (cut := text.find("\n", cut)) > 0 and text[cut - 1].isspace():
                cut += 1
            if cut < 0:
                break
            pieces.append(text[start:cut])
            start = cut
        return [*pieces, text[start:]]

    @cached_property
    def _cuts_like_gpt2(self) -> bool:
        cutter = self.record["pre_tokenizer"] or {}
        cuts = cutter.get("type") == "ByteLevel" and cutter["use_regex"] and not cutter["add_prefix_space"]
        plain = self.record["normalizer"] is None and all(
            token["special"] for token in self.record["added_tokens"]
        )
        return cuts and plain

    def _encode_pieces(self, batch: list[list[str]]) -> Iterator[np.ndarray]:
        encoded = iter(self._encode_batch([piece for pieces in batch for piece in pieces]))
        for pieces in batch:
            yield np.concatenate([next(encoded) for _ in pieces])

    def _encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        encodings = self.inner.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, np.int64) for encoding in encodings]


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


def load_tokenizer(path: str | Path, end: str = END) -> Tokenizer:
    """Reads a `tokenizer.json`, ours or another's; FileFormatError names the rule it breaks."""
    path = Path(path)
    if not path.is_file():
        raise InputMissingError(f"{path}: no such tokenizer file; check the path")
    if path.stat().st_size > MOST_FILE_BYTES:
        raise FileFormatError(path, f"larger than {MOST_FILE_BYTES:,} bytes; this is no tokenizer.json")
    try:
        text = path.read_bytes().decode("utf-8")
        check_record(path, json.loads(text))
        return Tokenizer(tokenizers.Tokenizer.from_str(text), end)
    except FileFormatError:
        raise
    except RecursionError:
        raise FileFormatError(path, "nested too deeply; this is no tokenizer.json") from None
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as problem:  # the library raises bare Exception, and PanicException beside it
        raise FileFormatError(
            path, f"not a readable tokenizer.json ({problem}); save or fetch it again"
        ) from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as problem:
        half = text[problem.start]
        raise LimitError(
            f"character {half!r} at position {problem.start} is half a surrogate pair, not text"
        ) from None


def byte_level(vocab: dict[str, int], use_regex: bool) -> tokenizers.Tokenizer:
    """Bytes as the smallest pieces; `use_regex` keeps merges within words."""
    inner = tokenizers.Tokenizer(models.BPE(vocab, []))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)
    inner.decoder = decoders.ByteLevel()
    return inner
