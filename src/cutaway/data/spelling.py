"""The bytes a token stands for, from its name in a tokenizer.json.

Byte-level vocabularies (Radford et al. 2019) name every byte by a printable character; byte-fallback ones
(Kudo & Richardson 2018) write a space as U+2581 and a lone byte as <0xNN>; marked ones (subword-nmt) end in
@@ where a word goes on, and elsewhere a space follows; the rest name a token by its text.
"""

import json
import re
from collections.abc import Callable

MARK = "@@"
MARKS = r"@@ |@@ ?\z"  # in the library's regular expressions; \z, as $ is also the end of any line


def _byte_alphabet() -> list[str]:
    """The character that stands for each byte: itself where that prints, else the next from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(value if value in printable else next(rest)) for value in range(256)]


BYTE_CHARACTERS = _byte_alphabet()
BYTE_OF_CHARACTER = {character: value for value, character in enumerate(BYTE_CHARACTERS)}


def speller(record: dict) -> Callable[[str], bytes]:
    """The function from a token's name to its bytes, by the decoder."""
    decoder = json.dumps(record["decoder"])
    if json.dumps(MARKS) in decoder:
        return _spell_marked
    if '"ByteLevel"' in decoder:
        return _spell_byte_level
    if '"ByteFallback"' in decoder:
        return _spell_byte_fallback
    return str.encode


def _spell_byte_level(name: str) -> bytes:
    if all(character in BYTE_OF_CHARACTER for character in name):
        return bytes(BYTE_OF_CHARACTER[character] for character in name)
    return name.encode()


def _spell_byte_fallback(name: str) -> bytes:
    if len(name) == 6 and name.startswith("<0x") and name.endswith(">"):
        return bytes.fromhex(name[3:5])
    return name.replace("\u2581", " ").encode()


def join_marks(line: str) -> str:
    """A line of pieces in whole words again, as `sed -r 's/(@@ )|(@@ ?$)//g'` makes it."""
    return re.sub(r"@@ |@@ ?\Z", "", line)


def _spell_marked(name: str) -> bytes:
    return (name[: -len(MARK)] if name.endswith(MARK) else name + " ").encode()
