"""Writes the text of the recipe: a dictionary, a thesaurus and film reviews as sentences, and the labelled
sets beside them.

python prepare.py WORDNET MOBY SENTENCES OUT    (WORDNET: /usr/share/wordnet of Debian's package wordnet-base,
or the folder `dict` of WordNet 3.0; MOBY: `words.txt` of the npm package moby; SENTENCES: the sets as
README.md names them)

A line of a WordNet file is a set of synonyms: its place, the number of its lexicographer's file, the part of
speech, how many words (in hexadecimal), these, how many pointers, these, and behind a bar the gloss: a
definition, then examples in quotation marks (wndb(5WN)). A pointer @ leads to what the set is a kind of.
"""

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from cutaway.data.sentences import read_sentences
from cutaway.errors import ConfigError, CutawayError, InputMissingError
from cutaway.store import write_file

PARTS = ("noun", "verb", "adj", "adv")
SETS = ("TREC.train.all", "TREC.test.all", "sst2/train.tsv", "sst2/dev.tsv", "sst2/test.tsv")
FILMS = ("rt-polarity.all", "subj.all")
KINDS, EXAMPLES = 2, 2  # of a set of synonyms
FEWEST = 4  # words of an example
LINES, ALIKE = 3, 10  # of an entry of the thesaurus, and words of a line
WHOLE, ONE_IN = 6, 12  # a whole sentence has so many words; one in so many is for validation
Phrase = tuple[str, ...]


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


def film_sentences(sets: Path, judged: Iterable[str]) -> Iterator[str]:
    """The sentences of MR and Subj without their labels, but for lines that are, or in which stands, one that
    somebody is judged by, whatever its marks, accents and capitals.
    """
    judged = list(judged)
    whole = {_letters(text) for text in judged}
    inside = [_letters(text) for text in judged if len(text.split()) >= WHOLE]
    for name in FILMS:
        for text in read_sentences(sets / name).texts:
            said = _letters(text)
            if said not in whole and not any(part in said for part in inside):
                yield text


def _letters(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())


def alike(entries: Iterable[str], known: set[str]) -> Iterator[str]:
    """Entries of the thesaurus as `word : word , word`, of known words, in an order of no meaning."""
    for entry in entries:
        word, *others = entry.lower().split(",")
        if not known.issuperset(word.split()):
            continue
        others = [other for other in others if known.issuperset(other.split())]
        others = sorted(others, key=lambda other: _digest(f"{word} {other}"))[: LINES * ALIKE]
        for start in range(0, len(others), ALIKE):
            yield f"{word} : {' , '.join(others[start : start + ALIKE])}"


def parts(phrase: Phrase) -> Iterator[Phrase]:
    """All that stands in a phrase without a gap, the whole included."""
    for start in range(len(phrase)):
        for end in range(start + 1, len(phrase) + 1):
            yield phrase[start:end]


def split_whole(phrases: dict[Phrase, str]) -> tuple[list[Phrase], list[Phrase]]:
    """SST-2's phrases are parts of sentences. One whole sentence in ONE_IN is for validation; for training
    are the phrases that stand in another sentence.
    """
    inner = {part for phrase in phrases for part in parts(phrase) if len(part) < len(phrase)}
    sentences = [phrase for phrase in phrases if phrase not in inner]
    held = {s for s in sentences if len(s) >= WHOLE and _digest(" ".join(s)) % ONE_IN == 0}
    others = {part for sentence in sentences if sentence not in held for part in parts(sentence)}
    return [phrase for phrase in phrases if phrase in others], [s for s in sentences if s in held]


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest())


def prepare(wordnet: Path, moby: Path, sets: Path, out: Path) -> None:
    """Writes wordnet.txt, thesaurus.txt and films.txt, each line a kind and a sentence, and the labelled
    sets: TREC's as they are, SST-2's with a validation part of whole sentences.

    Raises InputMissingError for a file that is not there, ConfigError where `out` is `sets`.
    """
    files = [wordnet / f"data.{part}" for part in PARTS] + [moby] + [sets / name for name in (*SETS, *FILMS)]
    if missing := [file for file in files if not file.is_file()]:
        raise InputMissingError(
            f"{missing[0]}: no such file; WORDNET is /usr/share/wordnet of Debian's package wordnet-base, "
            "MOBY words.txt of the npm package moby, SENTENCES holds the sets that README.md names"
        )
    if out.resolve() == sets.resolve():
        raise ConfigError(f"{out}: SST-2's files are written anew there; name another folder than {sets}")
    labelled = {name: read_sentences(sets / name) for name in SETS}
    phrases = {
        tuple(text.split()): label
        for part in (labelled["sst2/train.tsv"], labelled["sst2/dev.tsv"])
        for text, label in zip(part.texts, part.labels, strict=True)
    }
    train, valid = split_whole(phrases)
    tests = [text for name in SETS if "test" in name for text in labelled[name].texts]
    films = list(film_sentences(sets, [*tests, *(" ".join(phrase) for phrase in valid)]))
    learned = [text for name in SETS if "test" not in name for text in labelled[name].texts]
    known = {word for text in (*films, *learned) for word in text.lower().split()}
    written = {
        "wordnet.txt": [f"{part} {said}" for part in PARTS for said in sentences(wordnet / f"data.{part}")],
        "thesaurus.txt": [f"alike {said}" for said in alike(moby.read_text().splitlines(), known)],
        "films.txt": [f"film {said}" for said in films],
    }
    for name, kept in (("train", train), ("valid", valid)):
        written[f"sst2/{name}.tsv"] = ["sentence\tlabel", *(f"{' '.join(p)}\t{phrases[p]}" for p in kept)]
    for name, lines in written.items():
        write_file(out / name, ("\n".join(lines) + "\n").encode())
        print(f"{name}: {len(lines):,} lines")
    for name in SETS:
        if name not in written and "dev" not in name:
            write_file(out / name, (sets / name).read_bytes())


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: prepare.py WORDNET MOBY SENTENCES OUT")
    try:
        prepare(*map(Path, sys.argv[1:]))
    except CutawayError as problem:
        sys.exit(str(problem))
