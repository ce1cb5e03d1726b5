"""Text from files: what is read, what is left out, and how it is split into training and validation.

A source is a file, a `.gz` file, a folder, several of these, or `stdlib:`, the source of the Python that runs
us, or `topics:`, what its help() says of the language: 0.7 MB of English. Text is UTF-8 and nothing else: a
leading byte-order mark is dropped, a NUL or a malformed byte is refused with its place, newlines are kept as
they are.

Of a folder everything below it is read in the order of the names, except: names that begin with a dot; files
with a NUL in their first 8,000 bytes, which are taken for binary; files of white space only.
Of `stdlib:` every `*.py` is read except tests, IDLE, installed packages and the few files that are not UTF-8.
"""

import gzip
import hashlib
import os
import sysconfig
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import nextafter
from pathlib import Path

from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError

STDLIB, TOPICS = "stdlib:", "topics:"
STDLIB_LEFT_OUT = frozenset(
    ("test", "tests", "idle_test", "idlelib", "site-packages", "dist-packages", "__pycache__")
)
BINARY_PROBE_BYTES = 8_000
MOST_BYTES = 10 * 2**30
MOST_EXPANSION = 200  # a .gz that grows more than this (beyond the first MiB) is a bomb, not text

BYTE_ORDER_MARKS = (b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\x00\x00", b"\x00\x00\xfe\xff")


@dataclass(frozen=True)
class Document:
    """A piece of text with the name it has inside its source (a relative path, the same on every machine)."""

    name: str
    text: str


@dataclass(frozen=True)
class Split:
    """Documents to learn from and documents to be judged on."""

    train: list[Document]
    validation: list[Document]


def read_documents(source: str | Path | Sequence[str | Path]) -> list[Document]:
    """Reads every document of a source, each once, sorted by name.

    Raises InputMissingError where there is nothing to read and FileFormatError (file, line, byte offset)
    where there is something that is not UTF-8 text.
    """
    if isinstance(source, list | tuple) and len(source) == 1:
        source = source[0]
    if source == STDLIB:
        return _read_stdlib()
    if source == TOPICS:
        return _read_topics()
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]
    if not paths:
        raise InputMissingError("no text given: name a file, a folder or stdlib:")
    for path in paths:
        if not path.exists():
            raise InputMissingError(f"{path}: no such file or folder; check the path")
    # Names are relative to the innermost folder that holds all sources, so that splits do not depend on the
    # machine.
    root = Path(os.path.commonpath([(path if path.is_dir() else path.parent).resolve() for path in paths]))
    documents = {document.name: document for path in paths for document in _read_source(path, root)}
    if not documents:
        names = ", ".join(str(path) for path in paths)
        raise InputMissingError(
            f"{names}: holds no text (empty, white space or binary); give a file with text in it"
        )
    return [documents[name] for name in sorted(documents)]


def decode_text(data: bytes, path: str | Path) -> str:
    """The text of a file's bytes; FileFormatError with line and byte offset where it is not strict UTF-8."""
    if data.startswith(BYTE_ORDER_MARKS):
        raise FileFormatError(path, "begins with a UTF-16 or UTF-32 byte-order mark; convert it to UTF-8", 0)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as problem:
        start = problem.start
        line = data.count(b"\n", 0, start) + 1
        rule = f"line {line}: 0x{data[start]:02x} is not UTF-8 ({problem.reason}); convert the file to UTF-8"
        raise FileFormatError(path, rule, start) from None
    nul = data.find(b"\0")
    if nul >= 0:
        line = data.count(b"\n", 0, nul) + 1
        raise FileFormatError(path, f"line {line}: a NUL byte; this is not text, or not UTF-8", nul)
    return without_mark(text)


def without_mark(text: str) -> str:
    """A whole text, or its first line, without the byte-order mark that some editors put in front."""
    return text.removeprefix("\ufeff")


def split_by_file(documents: Sequence[Document], fraction: float = 0.1) -> Split:
    """Whole documents go to one side or the other, by a hash of their names: adding a file moves no other.

    Where the hash leaves a side empty, the document nearest the border changes sides.
    """
    _check_fraction(fraction)
    places = [_place(document.name) for document in documents]
    if len(set(places)) < 2:
        raise ConfigError(
            f"a split by file needs at least 2 documents, here {len(set(places))}: split the tail off"
        )
    border = min(max(fraction, nextafter(min(places), 1)), max(places))
    train = [document for document, place in zip(documents, places, strict=True) if place >= border]
    validation = [document for document, place in zip(documents, places, strict=True) if place < border]
    return Split(train, validation)


def split_tail(documents: Sequence[Document], fraction: float = 0.1) -> Split:
    """The first int((1 - fraction) n) of all n characters train, the rest is validation: nanoGPT's split."""
    _check_fraction(fraction)
    total = sum(len(document.text) for document in documents)
    border = int((1 - fraction) * total)
    if border == 0 or border == total:
        raise LimitError(
            f"{total} characters cannot be split {1 - fraction:g} to {fraction:g}: give more text"
        )
    train, validation, start = [], [], 0
    for document in documents:
        cut = min(max(border - start, 0), len(document.text))
        start += len(document.text)
        for part, text in ((train, document.text[:cut]), (validation, document.text[cut:])):
            if text:
                part.append(Document(document.name, text))
    return Split(train, validation)


def _check_fraction(fraction: float) -> None:
    if not 0 < fraction < 1:
        raise ConfigError(f"validation fraction {fraction}: must lie between 0 and 1, for example 0.1")


def _place(name: str) -> float:
    """A number in [0, 1) that depends on the name alone."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:6], "big") / 2**48


def _read_stdlib() -> list[Document]:
    root = Path(sysconfig.get_path("stdlib"))
    documents = []
    for path in _files_below(root, STDLIB_LEFT_OUT):
        if path.suffix != ".py":
            continue
        try:
            text = decode_text(path.read_bytes(), path)
        except FileFormatError:
            continue
        if text.strip():
            documents.append(Document(path.relative_to(root).as_posix(), text))
    if not documents:
        raise InputMissingError(
            f"{root}: this Python carries no source of its standard library; name a file or folder"
        )
    return documents


def _read_topics() -> list[Document]:
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise InputMissingError("topics: this Python carries no help texts; name a file or folder") from None
    return [Document(name, text) for name, text in sorted(topics.items()) if text.strip()]


def _read_source(path: Path, root: Path) -> list[Document]:
    documents = []
    for file in _files_below(path) if path.is_dir() else [path]:
        data = read_bytes(file)
        marked = data.startswith(BYTE_ORDER_MARKS)
        if path.is_dir() and not marked and b"\0" in data[:BINARY_PROBE_BYTES]:
            continue
        text = decode_text(data, file)
        if text.strip():
            name = file.parent.resolve().relative_to(root) / file.name
            documents.append(Document(name.as_posix(), text))
    return documents


def _files_below(folder: Path, left_out: frozenset[str] = frozenset()) -> list[Path]:
    """Files in a folder and its subfolders, sorted by relative path; links to folders are not followed."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in left_out and not name.startswith(".")]
        found += [Path(parent) / name for name in files if not name.startswith(".")]
    return sorted(
        (path for path in found if path.is_file()), key=lambda path: path.relative_to(folder).as_posix()
    )


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked where its name ends in .gz.

    Raises InputMissingError where it cannot be read, FileFormatError where it is damaged or far too large.
    """
    try:
        if path.suffix != ".gz":
            return path.read_bytes()
        most = min(MOST_BYTES, 2**20 + MOST_EXPANSION * path.stat().st_size)
        with gzip.open(path) as file:
            data = file.read(most + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as problem:
        raise FileFormatError(path, f"damaged gzip data ({problem}); fetch the file again") from None
    except OSError as problem:
        raise InputMissingError(
            f"{path}: cannot be read ({problem.strerror}); check the path and its rights"
        ) from None
    if len(data) > most:
        raise FileFormatError(path, f"unpacks to more than {most:,} bytes; unpack it and name the result")
    return data
