"""Writes sentencepiece models byte by byte, and does what they say in the plainest way: for tests only."""

import math
import struct
from itertools import pairwise

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = range(1, 7)
UNIGRAM, BPE = 1, 2
SPACE = "\u2581"


def varint(value: int) -> bytes:
    value &= 2**64 - 1
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def field(number: int, value: int | bytes | float) -> bytes:
    """A field of a message: a varint, bytes with their length, or four bytes of a float."""
    if isinstance(value, bytes):
        return varint(number * 8 + 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number * 8 + 5) + struct.pack("<f", value)
    return varint(number * 8) + varint(value)


def piece(name: str | bytes, score: float = 0.0, kind: int = NORMAL) -> bytes:
    data = name if isinstance(name, bytes) else name.encode()
    return field(1, field(1, data) + field(2, float(score)) + (field(3, kind) if kind != NORMAL else b""))


def model(
    pieces, algorithm: int = UNIGRAM, trainer: dict | None = None, normalizer: dict | None = None
) -> bytes:
    """A model of (name, score, kind) and settings by their field numbers."""
    spec = field(3, algorithm) + b"".join(field(number, value) for number, value in (trainer or {}).items())
    rules = b"".join(field(number, value) for number, value in (normalizer or {}).items())
    return b"".join(piece(*each) for each in pieces) + field(2, spec) + field(3, rules)


def charsmap(rules: dict[str, str]) -> bytes:
    """The compiled form of rules: every node of the trie has 256 units of its own."""
    texts, places = b"", {}
    for text in rules.values():
        places[text] = len(texts)
        texts += text.encode() + b"\0"
    trie: dict = {}
    for key, text in rules.items():
        node = trie
        for letter in key.encode():
            node = node.setdefault(letter, {})
        node[0] = places[text]
    units = [0] * 256

    def place(node: dict, at: int, label: int) -> None:
        block = len(units)
        units.extend([0] * 256)
        units[at] = (at ^ block) << 10 | (0 in node) << 8 | label
        if 0 in node:
            units[block] = node[0] | 1 << 31
        for letter, child in node.items():
            if letter:
                place(child, block ^ letter, letter)

    place(trie, 0, 0)
    trie_bytes = struct.pack(f"<{len(units)}I", *units)
    return struct.pack("<I", len(trie_bytes)) + trie_bytes + texts


def ready(text: str, *, prefix: bool = True, squeeze: bool = True) -> str:
    """Text as a model without rules reads it."""
    if squeeze:
        text = " ".join(word for word in text.strip(" ").split(" ") if word)
        while text and text[-1] in (" ", SPACE):
            text = text[:-1]
    return (SPACE if prefix and text else "") + text.replace(" ", SPACE)


def viterbi(pieces, text: str) -> list[int]:
    """The best segmentation of a text that is ready, unknown characters next to each other as one."""
    known = {name: (number, score) for number, (name, score, kind) in enumerate(pieces) if kind == NORMAL}
    unknown = next(number for number, (*_, kind) in enumerate(pieces) if kind == UNKNOWN)
    worst = min(score for _, score, _ in pieces) - 10.0
    best: list[tuple[float, int, int]] = [(0.0, 0, -1)] + [(-math.inf, 0, -1)] * len(text)
    longest = max(map(len, known), default=1)
    for end in range(1, len(text) + 1):
        for begin in range(max(0, end - longest), end):
            number, score = known.get(text[begin:end], (None, 0.0))
            if number is not None and best[begin][0] + score > best[end][0]:
                best[end] = (best[begin][0] + score, begin, number)
        if text[end - 1] not in known and best[end - 1][0] + worst > best[end][0]:
            best[end] = (best[end - 1][0] + worst, end - 1, unknown)
    ids: list[int] = []
    end = len(text)
    while end:
        _, begin, number = best[end]
        if not (ids and number == unknown == ids[-1]):
            ids.append(number)
        end = begin
    return ids[::-1]


def joined(pieces, text: str) -> list[int]:
    """Pairs joined best score first, the leftmost of equals; what is no piece is its bytes, or unknown."""
    known = {name: (score, number) for number, (name, score, kind) in enumerate(pieces) if kind == NORMAL}
    numbers = {name: number for number, (name, *_) in enumerate(pieces)}
    unknown = next(number for number, (*_, kind) in enumerate(pieces) if kind == UNKNOWN)
    parts = list(text)
    while True:
        pairs = [
            (-known[parts[at] + parts[at + 1]][0], at)
            for at in range(len(parts) - 1)
            if parts[at] + parts[at + 1] in known
        ]
        if not pairs:
            break
        at = min(pairs)[1]
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    ids: list[int] = []
    for part in parts:
        if part in known:
            ids.append(known[part][1])
        elif "<0x00>" in numbers:
            ids += [numbers[f"<0x{value:02X}>"] for value in part.encode()]
        elif not (ids and ids[-1] == unknown):
            ids.append(unknown)
    return ids


def unigram_pieces(texts, most: int = 400):
    """A vocabulary for tests: characters and short strings of texts, scored by how often they are there."""
    counts: dict[str, int] = {}
    for text in map(ready, texts):
        for begin in range(len(text)):
            for end in range(begin + 1, min(begin + 6, len(text)) + 1):
                name = text[begin:end]
                if SPACE not in name[1:]:
                    counts[name] = counts.get(name, 0) + 1
    best = sorted(counts, key=lambda name: (-counts[name] * len(name), name))[:most]
    best = [SPACE, *(name for name in best if name != SPACE)]
    total = sum(counts[name] for name in best)
    scored = [
        (name, math.log(counts[name] / total) - place * 1e-4, NORMAL) for place, name in enumerate(best)
    ]
    head = [("<pad>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), ("<unk>", 0.0, UNKNOWN)]
    return [
        (name, struct.unpack("<f", struct.pack("<f", score))[0], kind) for name, score, kind in head + scored
    ]


def bpe_pieces(texts, merges: int = 200, *, bytes_too: bool = True):
    """A vocabulary learned as sentencepiece does: characters, then the commonest pair joined, again and
    again.
    """
    words: dict[tuple[str, ...], int] = {}
    for text in texts:
        for word in ready(text, squeeze=False).replace(SPACE, " " + SPACE).split(" "):
            if word and all(ord(letter) < 0x250 or letter == SPACE for letter in word):
                words[tuple(word)] = words.get(tuple(word), 0) + 1
    letters = sorted({letter for word in words for letter in word} | {SPACE})
    learned: list[str] = []
    for _ in range(merges):
        pairs: dict[tuple[str, str], int] = {}
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] = pairs.get(pair, 0) + count
        pair = max(pairs, key=lambda pair: (pairs[pair], pair))
        name = "".join(pair)
        if name not in learned:
            learned.append(name)
        fresh = {}
        for word, count in words.items():
            parts, at = [], 0
            while at < len(word):
                step = 2 if word[at : at + 2] == pair else 1
                parts.append("".join(word[at : at + step]))
                at += step
            fresh[tuple(parts)] = fresh.get(tuple(parts), 0) + count
        words = fresh
    head = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL)]
    if bytes_too:
        head += [(f"<0x{value:02X}>", 0.0, BYTE) for value in range(256)]
    names = learned + letters
    return head + [(name, -float(place), NORMAL) for place, name in enumerate(names)]
