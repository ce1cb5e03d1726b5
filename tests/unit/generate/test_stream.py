"""Streamed text: whole characters only, and all pieces together are the full decoding."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.data.tokenizer import byte_tokenizer, subword_tokenizer
from cutaway.generate import TextStream

BYTES = byte_tokenizer()
SUBWORDS = subword_tokenizer(["an é 😀 日本 family 👨‍👩‍👧‍👦 naïve café " * 40], 330)


class Cut:
    """A tokenizer whose tokens are the given pieces of bytes."""

    def __init__(self, pieces: list[bytes]):
        self.pieces = pieces

    def token_bytes(self, number: int) -> bytes:
        return self.pieces[number]


def streamed(tokenizer, tokens, stops=()) -> tuple[list[str], str]:
    stream = TextStream(tokenizer, stops)
    return [stream.push(token) for token in tokens], stream.finish()


@settings(max_examples=400)
@given(st.binary(max_size=12), st.lists(st.integers(0, 12), max_size=6))
def test_any_bytes_in_any_cutting_decode_as_a_whole(data, cuts):
    cuts = sorted(min(cut, len(data)) for cut in cuts)
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    said, rest = streamed(Cut(pieces), range(len(pieces)))
    assert "".join(said) + rest == data.decode("utf-8", "replace")
    for piece in said:
        piece.encode("utf-8")  # no surrogate: every piece is valid by itself


def test_strings_of_two_bytes():
    for first in range(256):  # what follows a byte decodes alike within each of these
        for second in (
            0x00,
            0x61,
            0x7F,
            0x80,
            0x8F,
            0x90,
            0x9F,
            0xA0,
            0xBF,
            0xC0,
            0xC2,
            0xDF,
            0xE0,
            0xED,
            0xF0,
            0xFF,
        ):
            said, rest = streamed(BYTES, [first, second])
            assert "".join(said) + rest == bytes([first, second]).decode("utf-8", "replace")


@settings(max_examples=300)
@given(st.text(max_size=20))
def test_a_character_comes_with_its_last_byte(text):
    said, rest = streamed(BYTES, BYTES.encode(text).tolist())
    assert [piece for piece in said if piece] == list(text) and rest == ""


def test_bytes_that_can_become_nothing_do_not_wait():
    """At most three bytes wait: the first of a character of four."""
    for lead in (b"\xf0\x9f\x98", b"\xe6\x97", b"\xc3"):
        stream = TextStream(Cut([lead, b"\xff"]))
        assert stream.push(0) == ""
        assert stream.push(1) == "\ufffd\ufffd"


@pytest.mark.parametrize("text", ["family 👨‍👩‍👧‍👦!", "日本 café", "plain", ""])
def test_subwords_and_special_tokens(text):
    tokens = SUBWORDS.encode(text).tolist()
    said, rest = streamed(SUBWORDS, [*tokens, SUBWORDS.end])
    assert "".join(said) + rest == text == SUBWORDS.decode(tokens)


def test_stops_of_several_bytes_and_an_unfinished_character():
    tokens = [*list("naïve é".encode()), 195]
    assert streamed(BYTES, tokens, ["ïv"]) == (["n", "a"] + [""] * 8, "")
    assert streamed(BYTES, tokens, ["é!"]) == (
        ["n", "a", "", "ï", "v", "e", " ", "", "", ""],
        "é\ufffd",
    )
