"""Labelled sentences from files, and how they are split.

A line is a label, which is one word, then a space or a tab, then a sentence; or, where the first line names
columns with tabs between and `sentence` and `label` are among them (GLUE), a row of these. Only a newline, or
a carriage return and a newline, ends a line; empty lines are passed over.
A line that is not UTF-8 is read as Windows-1252, which has Latin-1's letters and, where Latin-1 has control
characters, the dashes and quotes of the files that are called Latin-1. No byte is replaced: one that stands
for nothing there is refused with its line.

Folds are dealt like cards: the different sentences of a file, in the order of the SHA-256 of their text, go
to fold 1, 2 and so on in turn, with all their copies. So folds are the same everywhere, differ in size by one
sentence and the copies, and hold of each class what falls to them; no sentence is on both sides.
"""

import hashlib
from collections import Counter
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

    def without(self, places: Sequence[int]) -> "Sentences":
        """All but these."""
        return self.part(sorted(set(range(len(self.texts))) - set(places)))


@dataclass(frozen=True)
class Labelled:
    """What a classifier learns from and is judged on, and all the labels there are, in sorted order.

    `copies` counts, where folds are dealt, the sentences that were dealt with an equal one.
    """

    train: Sentences
    validation: Sentences
    test: Sentences
    classes: tuple[str, ...]
    copies: int = 0


def read_labelled(plan: spec.Labelled) -> Labelled:
    """The three parts of a recipe's data.

    Raises InputMissingError for a file that is missing or empty, FileFormatError (file, line) for a line
    without a label or with one that training does not have, and where there is one label only; ConfigError
    where too few sentences are left for a part.
    """
    folder = Path(plan.folder)
    train = whole = read_sentences(folder / plan.train)
    _check_classes(whole)
    if plan.folds:
        train, test = deal(whole, plan.folds, plan.fold)
    else:
        test = read_sentences(folder / plan.test)
    if plan.validation:
        validation = read_sentences(folder / plan.validation)
    else:
        aside = [place for place, text in enumerate(train.texts) if place_of(text) < VALIDATION_SHARE]
        train, validation = train.without(aside), train.part(aside)
    classes = tuple(sorted(set(whole.labels)))
    if not (test.texts and validation.texts) or set(train.labels) != set(classes):
        parts = [f"deal {plan.folds} folds"] if plan.folds else []
        parts += [] if plan.validation else ["put one in ten aside"]
        raise ConfigError(
            f"{whole.path}: {len(whole.texts)} sentences are too few to {' and '.join(parts)}: "
            f"give more, or {'fewer folds' if plan.folds else 'data.validation'}"
        )
    for part in (validation, test):
        for line, label in zip(part.lines, part.labels, strict=True):
            if label not in classes:
                raise FileFormatError(
                    part.path,
                    f"line {line}: label {label!r} is not one of {train.path.name}'s ({_some(classes)}): "
                    "correct it, or name files that belong together",
                )
    times = Counter(whole.texts)
    copies = sum(times[text] > 1 for text in whole.texts) if plan.folds else 0
    return Labelled(train, validation, test, classes, copies)


def deal(whole: Sentences, folds: int, fold: int) -> tuple[Sentences, Sentences]:
    """The sentences of all folds but one, and those of that one, counted from 1, in the order of the file."""
    deck = sorted(set(whole.texts), key=lambda text: hashlib.sha256(text.encode()).digest())
    dealt = set(deck[fold - 1 :: folds])
    places = [place for place, text in enumerate(whole.texts) if text in dealt]
    return whole.without(places), whole.part(places)


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
