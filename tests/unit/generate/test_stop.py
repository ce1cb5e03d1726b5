"""Stop strings against a definition in three lines, over every cutting of random texts."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutaway.errors import ConfigError
from cutaway.generate import StopStrings

letters = st.sampled_from("abé😀")
texts = st.text(letters, max_size=24)
stop_lists = st.lists(st.text(letters, min_size=1, max_size=5), min_size=1, max_size=4)


def cut(text: str, stops: list[str]) -> str:
    """The text in front of the stop that is complete first, the longest of several."""
    for end in range(len(text) + 1):
        if complete := [stop for stop in stops if text[:end].endswith(stop)]:
            return text[: end - max(map(len, complete))]
    return text


def must_wait(text: str, stops: list[str]) -> int:
    """How many characters at the end may still become part of a stop: the hold-back nobody can go below."""
    return max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])),
        default=0,
    )


@st.composite
def pieces(draw: st.DrawFn) -> list[str]:
    text = draw(texts)
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


@settings(max_examples=600)
@given(pieces(), stop_lists)
@example(["abab", "é"], ["abé", "b"])
@example(["a", "b", "a", "b", "é"], ["babé", "ababa"])
def test_every_cutting_gives_the_text_in_front_of_the_first_stop(parts, stops):
    watch, said, heard = StopStrings(stops), "", ""
    for part in parts:
        said += part
        heard += watch.push(part)
        expected = cut(said, stops)
        if watch.found is None:
            assert expected == said  # a stop is seen with the piece that completes it
            assert heard == said[: len(said) - must_wait(said, stops)]  # and nothing waits without need
        else:
            assert heard == expected
    found = watch.found
    assert heard + watch.finish() == cut(said, stops)
    assert (found is None) == (cut(said, stops) == said and not any(stop in said for stop in stops))


def test_a_held_back_beginning_is_handed_out_at_the_end():
    watch = StopStrings(["###"])
    assert [watch.push("a#"), watch.push("#b"), watch.push("##"), watch.finish()] == ["a", "##b", "", "##"]
    assert watch.found is None


def test_after_the_stop_nothing_comes():
    watch = StopStrings(["b"])
    assert [watch.push("ab"), watch.push("c"), watch.finish(), watch.found] == ["a", "", "", "b"]


def test_of_stops_complete_at_the_same_character_the_longest_counts():
    watch = StopStrings(["c", "abc"])
    assert watch.push("xabc") == "x" and watch.found == "abc"


def test_without_stops_nothing_waits():
    assert StopStrings([]).push("abc") == "abc"


@pytest.mark.parametrize("stops", ["abc", ["a", ""], [None], [3], [b"a"]], ids=str)
def test_what_is_no_list_of_strings_is_refused(stops):
    with pytest.raises(ConfigError, match="stop"):
        StopStrings(stops)
