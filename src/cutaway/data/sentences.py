"""Labelled sentences from files, and how they are split.

A line is a label, which is one word, then a space or a tab, then a sentence; or, where the first line names
columns with tabs between and `sentence` and `label` are among them (GLUE), a row of these. Only a newline, or
a carriage return and a newline, ends a line; empty lines are passed over.
A line that is not UTF-8 is read as Windows-1252, which has Latin-1's letters and, where Latin-1 has control
characters, the dashes and quotes of the files that are called Latin-1. No byte is replaced: one that stands
for nothing there is refused with its line.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cutaway import spec
from cutaway.data.text import BYTE_ORDER_MARKS, Document, decode_text, read_bytes
from cutaway.errors import ConfigError, FileFormatError, InputMissingError

COLUMNS = ("sentence", "label")
VALIDATION_SHARE = 0.1
LABELLED = "labelled:"  # in front of a source of text: its sentences, without their labels


@dataclass(frozen=True)
class Sentences:
    """Sentences of a file, the label of each, and the number of its line."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    lines: tuple[int, ...]
    path: Path

    def part(self, places: Sequence[int]) -> "Sentences":
        """Some of them."""
        texts, labels = (tuple(column[i] for i in places) for column in (self.texts, self.labels))
        return Sentences(texts, labels, tuple(self.lines[i] for i in places), self.path)


@dataclass(frozen=True)
class Labelled:
    """What a classifier learns from and is judged on, and all the labels there are, in sorted order."""

    train: Sentences
    validation: Sentences
    test: Sentences
    classes: tuple[str, ...]


def read_labelled(plan: spec.Labelled) -> Labelled:
    """The three parts of a recipe's data.

    Raises InputMissingError for a file that is missing or empty, FileFormatError (file, line) for a line
    without a label or with one that training does not have, and where there is one label only; ConfigError
    where too few sentences are left for a validation part.
    """
    folder = Path(plan.folder)
    train = read_sentences(folder / plan.train)
    _check_classes(train)
    if plan.validation:
        validation = read_sentences(folder / plan.validation)
    else:
        aside = [place for place, text in enumerate(train.texts) if place_of(text) < VALIDATION_SHARE]
        validation, rest = train.part(aside), sorted(set(range(len(train.texts))) - set(aside))
        if not aside or len(set(train.labels)) > len({train.labels[place] for place in rest}):
            raise ConfigError(
                f"{train.path}: {len(train.texts)} sentences are too few to put one in ten aside: "
                "give more, or data.validation"
            )
        train = train.part(rest)
    test = read_sentences(folder / plan.test)
    classes = tuple(sorted(set(train.labels)))
    for part in (validation, test):
        for line, label in zip(part.lines, part.labels, strict=True):
            if label not in classes:
                raise FileFormatError(
                    part.path,
                    f"line {line}: label {label!r} is not one of {train.path.name}'s ({_some(classes)}): "
                    "correct it, or name files that belong together",
                )
    return Labelled(train, validation, test, classes)


def read_sentences(path: Path) -> Sentences:
    """The sentences of a file with their labels; raises as `read_labelled` does."""
    rows = list(_rows(path))
    if not rows:
        raise InputMissingError(f"{path}: holds no sentence; name a file with a label and a sentence a line")
    lines, labels, texts = zip(*rows, strict=True)
    return Sentences(texts, labels, lines, path)


def sentence_documents(source: Sequence[str]) -> list[Document]:
    """Each different sentence of files `labelled:PATH` as a document of its own, named after its text, so
    that a split never has it on both sides.
    """
    found: dict[str, Document] = {}
    for name in source:
        path = Path(name.removeprefix(LABELLED))
        for text in read_sentences(path).texts:
            found.setdefault(text, Document(f"sentence {hashlib.sha256(text.encode()).hexdigest()}", text))
    return sorted(found.values(), key=lambda document: document.name)


def place_of(text: str) -> float:
    """A number in [0, 1) that depends on a sentence alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, label and sentence of each line."""
    lines = _lines(path)
    names = lines[0].split("\t") if lines else []
    columns = [names.index(name) for name in COLUMNS] if set(COLUMNS) <= set(names) else None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or (columns and number == 1):
            continue
        if columns:
            cells = line.split("\t")
            if len(cells) != len(names):
                raise FileFormatError(
                    path, f"line {number}: {len(cells)} columns, but line 1 names {len(names)}: correct it"
                )
            text, label = (cells[place].strip() for place in columns)
        else:
            label, text = (*line.split(maxsplit=1), "")[:2]
        if not label or not text.strip():
            raise FileFormatError(
                path, f"line {number}: {line.strip()[:40]!r} is no label with a sentence: a line is the two"
            )
        yield number, label, text.strip()


def _lines(path: Path) -> list[str]:
    data = read_bytes(path)
    if data.startswith(BYTE_ORDER_MARKS) or b"\0" in data:
        decode_text(data, path)  # says what is wrong
    return [
        _decode(path, number, line.removesuffix(b"\r"))
        for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1)
    ]


def _decode(path: Path, number: int, line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return line.decode("windows-1252")
    except UnicodeDecodeError as problem:
        value = line[problem.start]
        raise FileFormatError(
            path, f"line {number}: 0x{value:02x} is neither UTF-8 nor Windows-1252; convert the file to UTF-8"
        ) from None


def _check_classes(train: Sentences) -> None:
    """Raises FileFormatError where the labels cannot be labels: one alone, or hardly two of a kind."""
    classes, count = sorted(set(train.labels)), len(train.labels)
    if len(classes) < 2:
        raise FileFormatError(
            train.path,
            f"every sentence has the label {classes[0]!r}, which leaves nothing to tell apart: "
            "name a file with two labels or more",
        )
    if len(classes) > 1 + count // 2:
        raise FileFormatError(
            train.path,
            f"{len(classes)} labels ({_some(classes)}) for {count} sentences: "
            "put in front of each sentence what kind it is",
        )


def _some(names: Sequence[str], most: int = 6) -> str:
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
