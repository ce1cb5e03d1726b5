"""Labelled sentences: the layouts there are, what is not UTF-8, the split, every way a file can be wrong."""

from hashlib import sha256
from pathlib import Path

import pytest

from cutaway import spec
from cutaway.data.sentences import deal, place_of, read_labelled, read_sentences, sentence_documents
from cutaway.errors import ConfigError, FileFormatError, InputMissingError

REAL = Path(__file__).parents[4] / "shared" / "data" / "sentences"


def written(folder: Path, text: str | bytes, name: str = "train.txt") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def lines(count: int, start: int = 0) -> str:
    return "".join(f"{i % 2} sentence number {i}\n" for i in range(start, start + count))


def plan(folder: Path, **parts) -> spec.Labelled:
    return spec.Labelled(str(folder), "train.txt", "test.txt", **parts)


@pytest.mark.parametrize("gap", [" ", "\t", "  ", " \t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_label_then_a_space_or_tab_then_the_sentence(gap, end, tmp_path):
    found = read_sentences(written(tmp_path, f"good{gap}a fine film{end}{end}bad{gap}no \x85 film {end}"))
    assert found.texts == ("a fine film", "no \x85 film")
    assert found.labels == ("good", "bad") and found.lines == (1, 3)


@pytest.mark.parametrize("header", ["sentence\tlabel", "index\tlabel\tsentence"])
def test_columns_that_the_first_line_names(header, tmp_path):
    row = {"index": "7", "label": "1", "sentence": "a 2 b "}
    path = written(tmp_path, f"{header}\n" + "\t".join(row[name] for name in header.split("\t")) + "\n")
    found = read_sentences(path)
    assert (found.texts, found.labels, found.lines) == (("a 2 b",), ("1",), (2,))


def test_a_line_that_is_not_utf8_is_windows_1252_and_the_others_stay_utf8(tmp_path):
    data = "\ufeff0 café\n".encode() + b"0 caf\xe9 \x96 clich\xe9s\n" + "1 naïve – ok\n".encode()
    found = read_sentences(written(tmp_path, data))
    assert found.texts == ("café", "café – clichés", "naïve – ok") and found.labels == ("0", "0", "1")
    assert "\ufffd" not in "".join(found.texts)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0 fine\nalone\n", r"train\.txt: line 2: 'alone' is no label with a sentence"),
        ("sentence\tlabel\na b\t\n", r"line 2: 'a b' is no label"),
        ("sentence\tlabel\na b\t1\t2\n", r"line 2: 3 columns, but line 1 names 2"),
        ("0 a\n0 b\n", r"every sentence has the label '0'"),
        ("it is\nthey are\nwe were\nyou will\n", r"4 labels \(it, they, we, you\) for 4 sentences"),
        (b"0 a\n1 b\x81\n", r"line 2: 0x81 is neither UTF-8 nor Windows-1252; convert"),
        (b"0 a\n1 \0b\n", r"line 2: a NUL byte"),
        ("0 a\n1 b\n".encode("utf-16"), "byte-order mark"),
    ],
    ids=["no label", "empty label", "columns", "one class", "all classes", "no character", "nul", "utf16"],
)
def test_a_file_that_breaks_a_rule_is_refused_with_its_line(text, said, tmp_path):
    written(tmp_path, text)
    written(tmp_path, "0 c\n1 d\n", "test.txt")
    with pytest.raises(FileFormatError, match=said) as refused:
        read_labelled(plan(tmp_path, validation="test.txt"))
    assert "\n" not in str(refused.value) and str(tmp_path) in str(refused.value)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(InputMissingError, match=r"train\.txt: .*check the path"):
        read_labelled(plan(tmp_path))
    written(tmp_path, "\n \n")
    with pytest.raises(InputMissingError, match="holds no sentence; name a file"):
        read_labelled(plan(tmp_path))


@pytest.mark.parametrize("part", ["test", "validation"])
def test_a_label_that_training_does_not_have_is_named(part, tmp_path):
    written(tmp_path, lines(40))
    written(tmp_path, "0 c\n\n2 d\n" if part == "test" else "0 c\n", "test.txt")
    written(tmp_path, "1 c\n\n2 d\n" if part == "validation" else "1 c\n", "own.txt")
    name = "test" if part == "test" else "own"
    with pytest.raises(
        FileFormatError, match=rf"{name}\.txt: line 3: label '2' is not one of train\.txt's \(0, 1"
    ):
        read_labelled(plan(tmp_path, validation="own.txt"))


def test_one_sentence_in_ten_is_put_aside_and_never_on_both_sides(tmp_path):
    written(tmp_path, lines(2000) + lines(500))  # 500 stand there twice
    written(tmp_path, lines(3), "test.txt")
    found = read_labelled(plan(tmp_path))
    assert found.classes == ("0", "1") and len(found.test.texts) == 3
    assert not set(found.train.texts) & set(found.validation.texts)
    assert len(found.train.texts) + len(found.validation.texts) == 2500
    assert abs(len(set(found.validation.texts)) - 200) < 4 * (2000 * 0.1 * 0.9) ** 0.5
    for part in (found.train, found.validation):
        for text, label, line in zip(part.texts, part.labels, part.lines, strict=True):
            number = int(text.split()[-1])
            assert label == str(number % 2) and line in (number + 1, number + 2001)
    written(tmp_path, lines(2000, start=1))  # another first line moves no other sentence
    again = read_labelled(plan(tmp_path))
    assert set(again.validation.texts) - {"sentence number 2000"} == set(found.validation.texts) - {
        "sentence number 0"
    }


def test_a_validation_file_of_its_own(tmp_path):
    written(tmp_path, lines(40))
    written(tmp_path, lines(6), "test.txt")
    written(tmp_path, lines(5), "own.txt")
    found = read_labelled(plan(tmp_path, validation="own.txt"))
    assert [len(part.texts) for part in (found.train, found.validation, found.test)] == [40, 5, 6]


def test_too_few_sentences_to_put_some_aside(tmp_path):
    kept = next(i for i in range(100) if place_of(f"sentence number {i}") >= 0.1)
    written(tmp_path, f"0 sentence number {kept}\n1 sentence number {kept}\n")
    written(tmp_path, lines(3), "test.txt")
    with pytest.raises(ConfigError, match="2 sentences are too few to put one in ten aside: give more"):
        read_labelled(plan(tmp_path))


def folded(folder: Path, folds: int, fold: int, **parts) -> spec.Labelled:
    return spec.Labelled(str(folder), "train.txt", folds=folds, fold=fold, **parts)


def test_folds_are_disjoint_and_together_the_whole(tmp_path):
    written(tmp_path, lines(203) + lines(20))  # 20 stand there twice
    tests = []
    for fold in range(1, 6):
        found = read_labelled(folded(tmp_path, 5, fold))
        parts = [found.train, found.validation, found.test]
        texts = [set(part.texts) for part in parts]
        assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
        assert sorted(line for part in parts for line in part.lines) == list(range(1, 224))
        assert found.classes == ("0", "1") and found.copies == 40
        assert [str((line - 1) % 203 % 2) for line in found.test.lines] == list(found.test.labels)
        assert list(found.test.lines) == sorted(found.test.lines)
        tests.append(found.test)
    assert sorted(line for test in tests for line in test.lines) == list(range(1, 224))
    assert sorted(len(set(test.texts)) for test in tests) == [40, 40, 41, 41, 41]
    assert tests[0].lines[:20] != tuple(range(1, 21)), "they are shuffled"


def test_folds_are_dealt_by_the_rule_that_is_stated(tmp_path):
    """The different sentences in the order of their SHA-256, to the folds in turn."""
    written(tmp_path, lines(60))
    deck = sorted(
        (f"sentence number {i}" for i in range(60)), key=lambda text: sha256(text.encode()).hexdigest()
    )
    found = read_labelled(folded(tmp_path, 3, 2))
    assert set(found.test.texts) == set(deck[1::3])
    assert set(found.validation.texts) == {text for text in deck if place_of(text) < 0.1} - set(deck[1::3])


def test_a_validation_file_beside_folds(tmp_path):
    written(tmp_path, lines(40))
    written(tmp_path, lines(5, start=40), "own.txt")
    found = read_labelled(folded(tmp_path, 4, 1, validation="own.txt"))
    assert [len(part.texts) for part in (found.train, found.validation, found.test)] == [30, 5, 10]


def test_too_few_sentences_for_folds(tmp_path):
    written(tmp_path, lines(4))
    with pytest.raises(
        ConfigError, match="4 sentences are too few to deal 9 folds and put one in ten aside: give"
    ):
        read_labelled(folded(tmp_path, 9, 9))
    written(tmp_path, lines(40) + "2 alone\n")
    fold = next(
        k for k in (1, 2, 3) if "alone" in deal(read_sentences(tmp_path / "train.txt"), 3, k)[1].texts
    )
    written(tmp_path, lines(9), "own.txt")
    with pytest.raises(
        ConfigError, match="41 sentences are too few to deal 3 folds: give more, or fewer folds"
    ):
        read_labelled(folded(tmp_path, 3, fold, validation="own.txt"))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not on this machine")
def test_ten_folds_of_mr():
    """Pang & Lee (2005): 10,662 sentences, as many of either class; 10 folds (Kim 2014)."""
    parts = [deal(read_sentences(REAL / "rt-polarity.all"), 10, fold) for fold in range(1, 11)]
    assert sorted(line for _, test in parts for line in test.lines) == list(range(1, 10_663))
    for train, test in parts:
        assert len(train.texts) + len(test.texts) == 10_662 and not set(train.texts) & set(test.texts)
        assert 1_055 < len(test.texts) < 1_080 and 0.44 < test.labels.count("1") / len(test.labels) < 0.56


def test_sentences_as_text_without_their_labels(tmp_path):
    one, two = (
        written(tmp_path, "0 a b\n1 c d\n0 a b\n"),
        written(tmp_path, "sentence\tlabel\nc d\t1\n", "2.tsv"),
    )
    found = sentence_documents([f"labelled:{one}", f"labelled:{two}"])
    assert sorted(document.text for document in found) == ["a b", "c d"]
    assert len({document.name for document in found}) == 2


COUNTS = {
    "TREC.train.all": (5452, 6),
    "TREC.test.all": (500, 6),
    "rt-polarity.all": (10662, 2),
    "subj.all": (10000, 2),
    "sst2/train.tsv": (60614, 2),
    "sst2/test.tsv": (872, 2),
}


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not on this machine")
@pytest.mark.parametrize("name", COUNTS)
def test_the_published_files(name):
    found = read_sentences(REAL / name)
    assert (len(found.texts), len(set(found.labels))) == COUNTS[name]
    assert not any("\ufffd" in text or "\x96" in text for text in found.texts)
    assert name != "rt-polarity.all" or any("cliché" in text for text in found.texts)
