"""Token shards: a corpus as one array of ids on disk, mapped into memory, made once and found again.

`<cache>/tokens/<digest>/` holds tokens.bin (the ids in the smallest unsigned type that has room for the
vocabulary, little-endian), shard.json (type, counts, digests, the index of documents) and the manifest. The
digest covers the names and texts of the documents and the tokenizer. Each document is followed by the
tokenizer's end token, where it has one.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cutaway.data.text import Document
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import FileFormatError, OutputExistsError
from cutaway.store import verify_folder, verify_sizes, write_folder

FORMAT = 1
TOKENS = "tokens.bin"
SHARD = "shard.json"


@dataclass(frozen=True)
class Span:
    """Where a document's tokens lie in a shard, its end token included: tokens[start:end]."""

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class TokenShard:
    """A corpus as ids: `tokens` (one axis, read only), where its documents lie, its size in UTF-8 bytes."""

    tokens: np.ndarray
    documents: tuple[Span, ...]
    bytes: int
    digest: str


def default_cache() -> Path:
    """`$CUTAWAY_HOME`, or `~/.cache/cutaway`."""
    home = os.environ.get("CUTAWAY_HOME")
    return Path(home) if home else Path.home() / ".cache" / "cutaway"


def token_type(vocab: int) -> np.dtype:
    """The smallest unsigned type with room for ids 0 to vocab - 1."""
    return np.dtype(np.min_scalar_type(vocab - 1)).newbyteorder("<")


def prepare_tokens(
    documents: Sequence[Document], tokenizer: Tokenizer, cache: Path | None = None
) -> TokenShard:
    """The shard of a corpus: opened where the cache has it, otherwise made, checked and kept there.

    A shard in the cache that is damaged is made again. Raises SaveError where the cache cannot be written and
    LimitError where the tokenizer does not know a character.
    """
    digest = _digest(documents, tokenizer)
    folder = (cache or default_cache()) / "tokens" / digest
    if folder.exists():
        try:
            return open_shard(folder)
        except FileFormatError:
            shutil.rmtree(folder, ignore_errors=True)
    with suppress(OutputExistsError):  # another process made the same shard meanwhile
        write_folder(folder, lambda beside: _fill(beside, documents, tokenizer, digest))
    verify_folder(folder)
    return open_shard(folder)


def open_shard(folder: Path) -> TokenShard:
    """Maps a shard into memory; FileFormatError where files are missing or have the wrong sizes."""
    verify_sizes(folder)
    path = Path(folder) / SHARD
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != FORMAT:
            raise FileFormatError(path, f"format {record['format']!r}, but this version reads {FORMAT}")
        count, kind = record["tokens"], np.dtype(record["dtype"])
        spans = tuple(Span(**span) for span in record["documents"])
        tokens = np.memmap(Path(folder) / TOKENS, kind, "r", shape=(count,)) if count else np.empty(0, kind)
        return TokenShard(tokens, spans, record["bytes"], record["digest"])
    except (ValueError, KeyError, TypeError) as problem:
        raise FileFormatError(path, f"not a shard's record ({problem}): the file is damaged") from None


def _digest(documents: Sequence[Document], tokenizer: Tokenizer) -> str:
    total = hashlib.sha256(f"{FORMAT} {tokenizer.digest}".encode())
    for document in documents:
        for part in (document.name, document.text):
            data = part.encode("utf-8", "surrogatepass")
            total.update(len(data).to_bytes(8, "little"))
            total.update(data)
    return total.hexdigest()


def _fill(folder: Path, documents: Sequence[Document], tokenizer: Tokenizer, digest: str) -> None:
    kind = token_type(tokenizer.vocab)
    close = np.array([] if tokenizer.end is None else [tokenizer.end], kind)
    spans, start = [], 0
    with open(folder / TOKENS, "xb") as file:
        for document, ids in zip(documents, tokenizer.encode_documents(documents), strict=True):
            file.write(ids.astype(kind).tobytes() + close.tobytes())
            end = start + len(ids) + len(close)
            spans.append(asdict(Span(document.name, start, end)))
            start = end
    record = {
        "format": FORMAT,
        "dtype": kind.str,
        "tokens": start,
        "bytes": sum(len(document.text.encode("utf-8")) for document in documents),
        "vocab": tokenizer.vocab,
        "digest": digest,
        "tokenizer": tokenizer.digest,
        "documents": spans,
    }
    (folder / SHARD).write_text(json.dumps(record), encoding="utf-8")
