"""Tokenizers of pairs: any text through the joint one and back, marked text as subword-nmt and sed do it."""

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cutaway.data.begin import begin_token
from cutaway.data.loading import load_tokenizer
from cutaway.data.pairing import SPECIAL, Codes, joint_tokenizer, marked_tokenizer
from cutaway.data.spelling import join_marks
from cutaway.data.tokenizer import UNKNOWN, Tokenizer
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError

MULTI30K = Path(__file__).parents[3] / "../shared/data/multi30k"
needs_multi30k = pytest.mark.skipif(
    not MULTI30K.exists(), reason="needs ../shared/data/multi30k, which is absent"
)
TEXTS = ["a man in a hat", "ein mann mit hut", "two men", "zwei männer mit hüten"] * 3
MARKED = ["a pul@@ ley sys@@ tem", "ein an@@ trie@@ b@@ s@@ rad@@ system", "b@@ s@@"]
text = st.text(st.characters(exclude_categories=["Cs"]))
pieces = st.text(st.sampled_from("ab@<>|"), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def joint() -> Tokenizer:
    return joint_tokenizer(TEXTS, 300)


@pytest.fixture(scope="module")
def marked() -> Tokenizer:
    return marked_tokenizer(MARKED)


@pytest.fixture(scope="module", params=["joint", "marked"])
def either(request) -> Tokenizer:
    return request.getfixturevalue(request.param)


def test_special_tokens_come_first(either):
    assert (either.pad, either.start, either.end) == (0, 1, 2) and begin_token(either) == 1
    assert either.decode([0, 1, 2]) == "" and [either.names[i] for i in range(3)] == list(SPECIAL)


def test_a_saved_tokenizer_is_the_same(either, tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(either.to_json())
    loaded = load_tokenizer(path)
    assert loaded.digest == either.digest and loaded.kind == either.kind
    assert (loaded.pad, loaded.start, loaded.end, loaded.unknown) == (0, 1, 2, either.unknown)
    line = "a pul@@ ley mann"
    assert loaded.encode(line).tolist() == either.encode(line).tolist()
    path.write_text(either.to_json().replace("<|start|>", "<|begin|>"))  # negative control
    changed = load_tokenizer(path)
    assert changed.digest != either.digest and changed.start is None


@pytest.mark.parametrize("name", SPECIAL)
def test_text_never_turns_into_special_tokens(either, name):
    for line in (name, f"a {name} b", f"a{name}"):
        assert not set(either.encode(line)) & {0, 1, 2}


@given(line=text)
@example("  two  spaces, one at the end ")
@example("🙂 👩‍👩‍👧 ́ \u2028 \x00 \x85 \r\n\t <|end|> \ufeff")
def test_joint_gives_any_text_back(joint, line):
    ids = joint.encode(line)
    assert joint.decode(ids) == line and ids.dtype == np.int64
    assert joint.inner.decode(ids.tolist()) == line  # the library alone, as Hugging Face would


def test_joint_learns_from_both_sides(joint):
    assert joint.kind == "bpe" and 259 < joint.vocab <= 300 and joint.unknown is None
    assert len(joint.encode(" mann")) < 5 and len(joint.encode(" man")) < 4
    assert len(joint_tokenizer(TEXTS[:1], 300).encode(" mann")) > len(joint.encode(" mann"))


def test_joint_needs_room_for_every_byte():
    with pytest.raises(ConfigError, match=r"data\.vocab: 258, .* at least 259"):
        joint_tokenizer(TEXTS, 258)
    assert joint_tokenizer(TEXTS, 259).vocab == 259


def test_marked_has_the_pieces_of_its_text(marked):
    names = [marked.names[number] for number in range(marked.vocab)]
    assert names == [*SPECIAL, UNKNOWN, *sorted(set(" ".join(MARKED).split()))] and marked.kind == "marked"
    for line in MARKED:
        assert [marked.names[number] for number in marked.encode(line)] == line.split()


def test_unknown_pieces_can_be_counted(marked):
    ids = marked.encode("a new pul@@ ley sys tem")
    assert (ids == marked.unknown).sum() == 2
    assert marked.decode(ids) == "a <unk> pulley <unk> tem"


def test_what_is_no_space_parts_no_pieces(marked):
    assert marked.encode("a\u00a0a\ta").tolist() == [marked.unknown]
    assert marked.encode("  a   a ").tolist() == marked.encode("a a").tolist() != []


@given(line=st.lists(pieces, min_size=1, max_size=6).map(" ".join))
@example("a @@")
@example("a@@@@ @@ b@@@")
def test_marks_are_joined_as_sed_does(line):
    tokenizer = marked_tokenizer([line])
    expected = sed([line])[0]
    ids = tokenizer.encode(line)
    if not set(line.split()) & {*SPECIAL}:
        assert tokenizer.decode(ids) == expected == join_marks(line)
        assert tokenizer.inner.decode(ids.tolist()) == expected
    assert tokenizer.decode([1, *ids, 2, 0]) == tokenizer.decode(ids)


def test_joining_can_fail():
    """Negative control: the ways to join that come to mind first are not sed's."""
    lines = ["a @@", "a@@ b@@", "a@@"]
    assert [line.replace("@@ ", "") for line in lines] != sed(lines)
    assert [re.sub("@@ ?", "", line) for line in ["a@@b"]] != sed(["a@@b"])


def sed(lines: list[str]) -> list[str]:
    command = ["sed", "-r", "s/(@@ )|(@@ ?$)//g"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    return done.stdout.split("\n")[: len(lines)]


def test_token_by_token_a_space_follows_each_word(marked):
    ids = marked.encode("a pul@@ ley")
    assert [marked.token_bytes(int(number)) for number in ids] == [b"a ", b"pul", b"ley "]
    assert marked.decode_bytes(ids) == b"a pulley"
    with pytest.raises(LimitError, match=r"token 99: .*"):
        marked.decode([99])


def test_marked_needs_words():
    with pytest.raises(InputMissingError, match="at least one word"):
        marked_tokenizer(["", "  "])


def write_codes(folder: Path, *lines: str) -> Path:
    path = folder / "codes"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_codes_join_the_earliest_pair_first(tmp_path):
    codes = Codes(write_codes(tmp_path, "#version: 0.2", "b c", "a b", "b c</w>", "a bc</w>", "e e"))
    cut = ["bcb", "abcb", "abc", "bc", "cab", "c", "eee", "eeee", "eeeee"]
    # "ab" is learned before "bc</w>", so that "abc" never comes to "a bc</w>"; "e e" is not "e e</w>"
    expected = ["bc@@ b", "a@@ bc@@ b", "ab@@ c", "bc", "c@@ a@@ b", "c"]
    expected += ["ee@@ e", "ee@@ e@@ e", "ee@@ ee@@ e"]
    assert [codes.apply(word) for word in cut] == expected
    assert codes.apply("  abc  c ") == "  ab@@ c c " and codes.apply("") == "" and codes.apply("  ") == "  "


def test_of_equal_codes_the_first_counts_and_later_ones_keep_their_place(tmp_path):
    """As in subword-nmt 0.3.8: more lines than pairs hide no pair, one that comes again moves nowhere."""
    codes = Codes(write_codes(tmp_path, "#version: 0.2", "a b", "a b", "a b", "x y</w>"))
    assert codes.apply("zxy") == "z@@ xy" and codes.apply("abc") == "ab@@ c"
    again = Codes(write_codes(tmp_path, "#version: 0.2", "a b", "b c</w>", "a b"))
    assert again.apply("abc") == "ab@@ c"


def test_the_order_of_codes_matters(tmp_path):
    """Negative control."""
    swapped = Codes(write_codes(tmp_path, "#version: 0.2", "a b", "b c", "b c</w>", "a bc</w>"))
    assert swapped.apply("abcb") == "ab@@ c@@ b"


@pytest.mark.parametrize(
    ("lines", "rule"),
    [
        (["a b"], "line 1: must be '#version: 0.2'"),
        (["#version: 0.1", "a b"], "line 1"),
        (["#version: 0.2", "a b", "abc"], "line 3: 'abc' is not two pieces"),
        (["#version: 0.2", "a b c"], "line 2"),
        (["#version: 0.2", "a b", "", "b c"], "line 3: '' is not two pieces"),
        (["#version: 0.2", "a "], "line 2"),
    ],
)
def test_bad_codes_are_refused(tmp_path, lines, rule):
    with pytest.raises(FileFormatError, match=rule):
        Codes(write_codes(tmp_path, *lines))


def test_missing_codes_are_named(tmp_path):
    with pytest.raises(InputMissingError, match="no such file"):
        Codes(tmp_path / "codes")
    with pytest.raises(InputMissingError, match="a folder"):
        Codes(tmp_path)


def test_a_word_without_an_end_is_refused(tmp_path):
    codes = Codes(write_codes(tmp_path, "#version: 0.2", "x x"))
    assert codes.apply("a " + "x" * 1_000).count("xx@@") == 499
    with pytest.raises(LimitError, match="a word of 1,001 characters"):
        codes.apply("a " + "x" * 1_001 + " b")


PARTS = {"train": "train", "valid": "val", "test.2016": "test_2016_flickr"}


@needs_multi30k
@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("part", [pytest.param("train", marks=pytest.mark.slow), "valid", "test.2016"])
def test_codes_reproduce_the_published_text(part, language):
    """What Wu et al. (2021) published, from the text it was cut from."""
    codes = Codes(MULTI30K / "bpe_en-de/code")
    plain = (MULTI30K / f"tok/{PARTS[part]}.lc.norm.tok.{language}").read_text().split("\n")
    published = (MULTI30K / f"bpe_en-de/{part}.{language}").read_text().split("\n")
    assert [codes.apply(line) for line in plain] == published
