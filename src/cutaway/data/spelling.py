"""The bytes a token stands for, from its name in a tokenizer.json.

Byte-level vocabularies (Radford et al. 2019) name every byte by a printable character; byte-fallback ones
(Kudo & Richardson 2018) write a space as U+2581 and a lone byte as <0xNN>; marked ones (subword-nmt) end in
@@ where a word goes on, and elsewhere a space follows; WordPiece (Schuster & Nakajima 2012) writes ## where a
word goes on, and elsewhere a space comes before; the rest name a token by its text.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

SPACE = "\u2581"
CLEANUPS = (  # of English, as the library's WordPiece decoder does them, one after the other
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)
MARK = "@@"
MARKS = r"@@ |@@ ?\z"  # in the library's regular expressions; \z, as $ is also the end of any line


def _byte_alphabet() -> list[str]:
    """The character that stands for each byte: itself where that prints, else the next from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(value if value in printable else next(rest)) for value in range(256)]


BYTE_CHARACTERS = _byte_alphabet()
BYTE_OF_CHARACTER = {character: value for value, character in enumerate(BYTE_CHARACTERS)}


@dataclass(frozen=True)
class Spelling:
    """From a token's name to its bytes: `inside` a text, and as the `first` of one."""

    inside: Callable[[str], bytes]
    first: Callable[[str], bytes]


def speller(record: dict) -> Spelling:
    """How the tokens of a tokenizer.json are spelled, by its decoder."""
    steps = _steps(record["decoder"])
    kinds = {step["type"] for step in steps}
    if json.dumps(MARKS) in json.dumps(record["decoder"]):
        return Spelling(_spell_marked, _spell_marked)
    if "ByteLevel" in kinds:
        return Spelling(_spell_byte_level, _spell_byte_level)
    for step in steps:
        if step["type"] == "WordPiece":
            return _spell_pieces_of_words(step["prefix"], step["cleanup"])
        if step["type"] == "Metaspace":
            return _spell_metaspace(step["replacement"], step["prepend_scheme"] != "never")
    if not steps:  # the library puts a space between
        return Spelling(lambda name: f" {name}".encode(), str.encode)
    if "ByteFallback" in kinds or any(_writes_spaces(step) for step in steps):
        begins = any(step["type"] == "Strip" and step["content"] == " " and step["start"] for step in steps)
        spell = _spell_byte_fallback if "ByteFallback" in kinds else _spell_spaces
        return Spelling(spell, (lambda name: spell(name).removeprefix(b" ")) if begins else spell)
    return Spelling(str.encode, str.encode)


def _steps(decoder: dict | None) -> list[dict]:
    """The decoders of a sequence, one after the other."""
    if decoder is None:
        return []
    if decoder["type"] != "Sequence":
        return [decoder]
    return [step for inner in decoder["decoders"] for step in _steps(inner)]


def _writes_spaces(step: dict) -> bool:
    return step["type"] == "Replace" and step["pattern"] == {"String": SPACE} and step["content"] == " "


def _spell_pieces_of_words(prefix: str, cleanup: bool) -> Spelling:
    """A space in front of each token that does not go on with a word; `cleanup` takes it from punctuation."""

    def first(name: str) -> bytes:
        for before, after in CLEANUPS if cleanup else ():
            name = name.replace(before, after)
        return name.encode()

    def inside(name: str) -> bytes:
        return first(name.replace(prefix, "", 1) if name.startswith(prefix) else " " + name)

    return Spelling(inside, first)


def _spell_metaspace(space: str, begins: bool) -> Spelling:
    def inside(name: str) -> bytes:
        return name.replace(space, " ").encode()

    return Spelling(inside, (lambda name: name.replace(space, "").encode()) if begins else inside)


def _spell_byte_level(name: str) -> bytes:
    if all(character in BYTE_OF_CHARACTER for character in name):
        return bytes(BYTE_OF_CHARACTER[character] for character in name)
    return name.encode()


def _spell_byte_fallback(name: str) -> bytes:
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes.fromhex(name[3:5])
    return _spell_spaces(name)


def _spell_spaces(name: str) -> bytes:
    return name.replace(SPACE, " ").encode()


def join_marks(line: str) -> str:
    """A line of pieces in whole words again, as `sed -r 's/(@@ )|(@@ ?$)//g'` makes it."""
    return re.sub(r"@@ |@@ ?\Z", "", line)


def _spell_marked(name: str) -> bytes:
    return (name[: -len(MARK)] if name.endswith(MARK) else name + " ").encode()
