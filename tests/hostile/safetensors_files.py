"""Bad safetensors files made by hand, each with the rule that must refuse it, and one good file to mutate."""

import json
import random
import struct
from collections.abc import Callable
from typing import Any

DATA = struct.pack("<6f", *range(6)) + struct.pack("<3h", 1, 2, 3) + b"\x01\x00"
GOOD: dict[str, Any] = {
    "__metadata__": {"format": "pt"},
    "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "I16", "shape": [3], "data_offsets": [24, 30]},
    "c": {"dtype": "BOOL", "shape": [2, 1], "data_offsets": [30, 32]},
    "none": {"dtype": "F64", "shape": [0, 4], "data_offsets": [32, 32]},
}


def packed(header: Any, data: bytes = DATA, length: int | None = None) -> bytes:
    """A file of a header, as JSON text or as what becomes it."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def changed(**entry: Any) -> bytes:
    """The good file with other values in the entry of `a.weight`."""
    return packed(GOOD | {"a.weight": GOOD["a.weight"] | entry})


def only(entry: Any, data: bytes = b"") -> bytes:
    return packed({"x": entry}, data)


def text_of(line: str, data: bytes = b"\0" * 4) -> bytes:
    return packed(line.encode("utf-8", "surrogatepass"), data)


ONE = '"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'

BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "0 bytes are no safetensors"),
    "seven bytes": (b"\x02\0\0\0\0\0\0", "7 bytes are no safetensors"),
    "header longer than the file": (packed(GOOD, length=10**6), "only .* follow"),
    "header of 2^63 bytes": (packed(GOOD, length=2**63), "at most 100,000,000"),
    "header of 100 MB and one": (packed(GOOD, length=100_000_001), "at most 100,000,000"),
    "no header": (packed(b"", length=0), "does not begin with {"),
    "a list": (packed([]), "does not begin with {"),
    "a space in front": (packed(b" " + json.dumps(GOOD).encode()), "does not begin with {"),
    "no UTF-8": (packed(b'{"\xff":1}'), "not UTF-8"),
    "no JSON": (packed(b'{"x":}'), "not valid JSON"),
    "text behind the table": (packed(b"{}{}", b""), "not valid JSON"),
    "not a number": (text_of('{"x":{"dtype":"F32","shape":[NaN],"data_offsets":[0,4]}}'), "NaN is not"),
    "a number of 5,000 digits": (
        text_of('{"x":{"dtype":"F32","shape":[' + "9" * 5_000 + '],"data_offsets":[0,4]}}'),
        "too long",
    ),
    "a tensor twice": (text_of("{" + ONE + "," + ONE + "}"), "'x' stands twice"),
    "dtype twice": (text_of("{" + ONE.replace("{", '{"dtype":"I32",') + "}"), "'dtype' stands twice"),
    "a lone surrogate": (text_of("{" + ONE.replace('"x"', '"\\ud800"') + "}"), "valid Unicode"),
    "nested 50,000 deep": (text_of('{"x":' + "[" * 50_000 + "]" * 50_000 + "}"), "more than 3 deep"),
    "open 50,000 deep": (text_of('{"x":' + '{"a":' * 50_000), "more than 3 deep"),
    "three million values": (text_of('{"x":[' + "0," * 3_000_000 + "0]}"), "more than 2,097,152 values"),
    "three million strings": (text_of('"' * 6_000_000), "does not begin with {"),
    "three million strings in a table": (text_of("{" + '"' * 6_000_000), "more than 2,097,152 values"),
    "an unknown dtype": (changed(dtype="F31"), "dtype 'F31'; did you mean F32"),
    "a dtype of the format that is not read": (changed(dtype="F8_E8M0"), "F8_E8M0, which is not read"),
    "a dtype that is a number": (changed(dtype=1), "dtype '1'"),
    "a dtype that is a list": (changed(dtype=["F32"]), "dtype"),
    "a shape that is a number": (changed(shape=6), "no shape"),
    "an axis below zero": (changed(shape=[-2, -3]), "no shape"),
    "an axis of true": (changed(shape=[True, 6]), "no shape"),
    "an axis of 2.0": (changed(shape=[2.0, 3]), "no shape"),
    "seventeen axes": (changed(shape=[1] * 15 + [2, 3]), "at most 16"),
    "2^64 elements": (changed(shape=[2**32, 2**32]), "beyond"),
    "an overflow that comes out right": (changed(shape=[2**62, 4, 6]), "beyond"),
    "no elements in 2^60 rows": (
        only({"dtype": "F32", "shape": [0, 2**60], "data_offsets": [0, 0]}),
        "beyond",
    ),
    "too few bytes": (changed(shape=[2, 4]), "needs 32 bytes for F32 .* has 24"),
    "offsets the wrong way": (changed(data_offsets=[24, 0]), "no data_offsets"),
    "three offsets": (changed(data_offsets=[0, 24, 30]), "no data_offsets"),
    "offsets below zero": (changed(data_offsets=[-24, 0]), "no data_offsets"),
    "an overlap": (packed(GOOD | {"b": GOOD["b"] | {"data_offsets": [20, 26]}}), "overlaps"),
    "two of the same bytes": (packed(GOOD | {"d": GOOD["a.weight"]}), "overlaps"),
    "a hole": (
        packed({"x": {"dtype": "U8", "shape": [1], "data_offsets": [1, 2]}}, b"\0\0"),
        "leaves a hole",
    ),
    "trailing bytes": (packed(GOOD, DATA + b"PK\x05\x06"), "4 bytes follow the last tensor"),
    "data cut off": (packed(GOOD, DATA[:-1]), "1 bytes missing"),
    "data behind no tensor": (packed({}, b"\0"), "1 bytes follow"),
    "an unknown key": (only({"dtype": "U8", "shape": [0], "data_offsets": [0, 0], "x": 1}), "alone"),
    "a missing key": (only({"dtype": "U8", "shape": [0]}), "alone"),
    "an entry that is a list": (only(["F32", [1], [0, 4]]), "alone"),
    "a tensor without a name": (packed({"": GOOD["a.weight"]}, DATA[:24]), "0 characters"),
    "a name of a megabyte": (packed({"n" * 2**20: GOOD["a.weight"]}, DATA[:24]), "1,048,576 characters"),
    "metadata that is a list": (packed(GOOD | {"__metadata__": []}), "__metadata__ is not a table"),
    "metadata of numbers": (packed(GOOD | {"__metadata__": {"a": 1}}), "__metadata__ is not a table"),
    "metadata of a table": (packed(GOOD | {"__metadata__": {"a": {}}}), "__metadata__ is not a table"),
    "a zip archive": (b"PK\x03\x04" + packed(GOOD), "never unpickles"),
    "a pickle": (b"\x80\x04\x95" + packed(GOOD), "never unpickles"),
}

NUMBERS: tuple[Any, ...] = (
    *(0, 1, 2, 3, 4, 6, 24, 30, 32, 33, -1, 2**31, 2**32, 2**53, 2**60, 2**63, 2**64, 10**30),
    *(1.5, True, None, "1", [], {}, [1], 1e400),
)
DTYPES = ("F32", "F64", "BOOL", "I16", "U16", "F8_E5M2", "F8_E8M0", "f32", "", "BF16", 3, None)


def mutated(draw: random.Random) -> bytes:
    """The good file after one to three changes of its structure, its text or its bytes."""
    header = json.loads(json.dumps(GOOD))
    data, late = DATA, []
    for _ in range(draw.choice((1, 1, 2, 3))):
        change = draw.choice(CHANGES)
        if change in ON_TEXT:
            late.append(change)
        else:
            data = change(draw, header, data)
    text = json.dumps(header, separators=draw.choice(((",", ":"), (", ", ": ")))).encode()
    length = None
    for change in late:
        text, length = change(draw, text, length)
    return packed(text, data, length)


def a_number(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    entry = an_entry(draw, header)
    numbers = entry.get(draw.choice(("shape", "data_offsets"))) if isinstance(entry, dict) else None
    if isinstance(numbers, list):
        change = draw.randrange(3)
        if change == 0 or not numbers:
            numbers.append(draw.choice(NUMBERS))
        elif change == 1:
            numbers[draw.randrange(len(numbers))] = draw.choice(NUMBERS)
        else:
            del numbers[draw.randrange(len(numbers))]
    return data


def a_dtype(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    if isinstance(entry := an_entry(draw, header), dict):
        entry["dtype"] = draw.choice(DTYPES)
    return data


def a_value(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    entry = an_entry(draw, header)
    if isinstance(entry, dict):
        entry[draw.choice(("dtype", "shape", "data_offsets", "other"))] = draw.choice(NUMBERS)
    return data


def a_name(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    if header:
        old = draw.choice(list(header))
        header[draw.choice(("b", "", "__metadata__", "\ud800", "x" * 2_000, "new"))] = header.pop(old)
    return data


def an_entry_less(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    if header:
        header.pop(draw.choice(list(header)))
    return data


def both_shifted(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    by = draw.choice((-8, -1, 1, 2, 8))
    for entry in header.values():
        if isinstance(entry, dict) and isinstance(found := entry.get("data_offsets"), list):
            entry["data_offsets"] = [at + by if type(at) is int else at for at in found]
    return data


def same_bytes_other_shape(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    """Often still a good file."""
    if isinstance(entry := header.get("a.weight"), dict):
        entry["shape"] = draw.choice(([6], [3, 2], [1, 6], [2, 3, 1], [6, 1, 1, 1], [5]))
        entry["dtype"] = draw.choice(("F32", "I32", "F32", "F16"))
    return data


def other_data(draw: random.Random, header: dict[str, Any], data: bytes) -> bytes:
    return draw.choice((data[: draw.randrange(len(data) + 1)], data + b"\0", data[1:], data[::-1]))


def a_byte(draw: random.Random, text: bytes, length: int | None) -> tuple[bytes, int | None]:
    at = draw.randrange(len(text)) if text else 0
    return text[:at] + bytes((draw.randrange(256),)) + text[at + 1 :], length


def a_piece(draw: random.Random, text: bytes, length: int | None) -> tuple[bytes, int | None]:
    at, other = sorted(draw.randrange(len(text) + 1) for _ in range(2))
    change = draw.randrange(3)
    if change == 0:
        return text[:at] + text[other:], length
    if change == 1:
        return text[:other] + text[at:other] + text[other:], length
    return text[:at] + draw.choice((b"[" * 99, b'{"a":' * 99, b'"', b"\\", b"\0", b"1e9", b" ")) + text[
        at:
    ], length


def a_length(draw: random.Random, text: bytes, length: int | None) -> tuple[bytes, int | None]:
    near = len(text) + draw.choice((-9, -1, 1, 8, 32, 40))
    return text, draw.choice((0, 1, max(0, near), 10**8, 2**32, 2**63, 2**64 - 1, 2**64 - 8))


def spaces(draw: random.Random, text: bytes, length: int | None) -> tuple[bytes, int | None]:
    """Still a good file."""
    return text + b" " * draw.randrange(9), length


ON_TEXT: tuple[Callable[..., Any], ...] = (a_byte, a_piece, a_length, spaces)
CHANGES: tuple[Callable[..., Any], ...] = (
    *(a_number, a_number, a_number, a_dtype, a_value, a_name, an_entry_less, both_shifted),
    *(same_bytes_other_shape, other_data, *ON_TEXT),
)


def an_entry(draw: random.Random, header: dict[str, Any]) -> Any:
    return header[draw.choice(list(header))] if header else None
