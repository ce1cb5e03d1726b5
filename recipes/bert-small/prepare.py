"""Writes the text of the recipe: WordNet and film reviews as sentences, and the labelled sets beside them.

python prepare.py WORDNET SENTENCES OUT    (WORDNET: /usr/share/wordnet of Debian's package wordnet-base, or
the folder `dict` of WordNet 3.0; SENTENCES: the sets as README.md names them)

A line of a WordNet file is a set of synonyms: its place, the number of its lexicographer's file, the part of
speech, how many words (in hexadecimal), these, how many pointers, these, and behind a bar the gloss: a
definition, then examples in quotation marks (wndb(5WN)). A pointer @ leads to what the set is a kind of.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cutaway.data.sentences import read_sentences
from cutaway.errors import CutawayError, InputMissingError
from cutaway.store import write_file

PARTS = ("noun", "verb", "adj", "adv")
SETS = ("TREC.train.all", "TREC.test.all", "sst2/train.tsv", "sst2/dev.tsv", "sst2/test.tsv")
FILMS = ("rt-polarity.all", "subj.all")
KINDS, EXAMPLES = 2, 2  # of a set of synonyms
FEWEST = 4  # words of an example


@dataclass(frozen=True)
class Synonyms:
    """Words of one meaning, the places of what they are kinds of, their definition, and examples of use."""

    words: tuple[str, ...]
    kinds: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]


def read_synonyms(line: str) -> tuple[str, Synonyms]:
    """Place and contents of a line."""
    head, _, gloss = line.partition(" | ")
    place, _, _, count, *rest = head.split()
    end = 2 * int(count, 16)
    words = tuple(re.sub(r"\(\w+\)$", "", word).replace("_", " ") for word in rest[:end:2])
    pointers = rest[end + 1 :]
    kinds = tuple(to for sign, to in pairwise(pointers) if sign in ("@", "@i"))
    definition = gloss.partition('; "')[0].strip()
    return place, Synonyms(words, kinds, definition, tuple(re.findall(r'"([^"]+)"', gloss)))


def spaced(text: str) -> str:
    """Marks stand alone, as in the sentence sets."""
    return " ".join(re.sub(r"([,;:?!()\"]|\.(?=\s|$))", r" \1 ", text).split())


def sentences(file: Path) -> Iterator[str]:
    """Each set of synonyms as `words , kinds : definition`, and its examples."""
    lines = file.read_text(encoding="utf-8").split("\n")
    sets = dict(read_synonyms(line) for line in lines if line and not line.startswith("  "))
    for each in sets.values():
        kinds = [sets[place].words[0] for place in each.kinds[:KINDS]]
        yield spaced(f"{' , '.join([*each.words, *kinds])} : {each.definition}")
        yield from (spaced(said) for said in each.examples[:EXAMPLES] if len(said.split()) >= FEWEST)


def film_sentences(sets: Path) -> Iterator[str]:
    """The sentences of MR and Subj without their labels, but for those that a test part has, whatever their
    marks, accents and capitals.
    """
    tests = {_letters(text) for name in SETS if "test" in name for text in read_sentences(sets / name).texts}
    for name in FILMS:
        yield from (text for text in read_sentences(sets / name).texts if _letters(text) not in tests)


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def prepare(wordnet: Path, sets: Path, out: Path) -> None:
    """Writes wordnet.txt, each line a part of speech and a sentence, films.txt likewise, and copies of the
    labelled sets.
    """
    files = [wordnet / f"data.{part}" for part in PARTS] + [sets / name for name in (*SETS, *FILMS)]
    if missing := [file for file in files if not file.is_file()]:
        raise InputMissingError(
            f"{missing[0]}: no such file; WORDNET is /usr/share/wordnet of Debian's package wordnet-base, "
            "SENTENCES holds the sets that README.md names"
        )
    texts = {
        "wordnet": [f"{part} {said}" for part in PARTS for said in sentences(wordnet / f"data.{part}")],
        "films": [f"film {said}" for said in film_sentences(sets)],
    }
    for name, lines in texts.items():
        write_file(out / f"{name}.txt", ("\n".join(lines) + "\n").encode())
        print(f"{name}: {len(lines):,} sentences")
    for name in SETS:
        write_file(out / name, (sets / name).read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: prepare.py WORDNET SENTENCES OUT")
    try:
        prepare(*map(Path, sys.argv[1:]))
    except CutawayError as problem:
        sys.exit(str(problem))
