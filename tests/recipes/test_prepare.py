"""What `bert-small` makes of WordNet's files."""

import pytest

from cutaway.errors import ConfigError, InputMissingError
from tests.recipes.scripts import script

NOUNS = (
    "  1 This software and database is being provided to you\n"
    "00001740 03 n 01 entity 0 001 ~ 00001930 n 0000 | that which is perceived  \n"
    "00001930 03 n 02 bird 0 feathered_friend 0 001 @ 00001740 n 0000 | has wings, often; "
    '"the bird flew away at 1.5 metres."; "a bird"  \n'
)
ADJECTIVES = "00003131 00 a 01 adducent(p) 0 000 | drawing (a limb); \n"


@pytest.fixture
def prepare():
    """The recipe's script as a module."""
    return script("bert-small", "prepare.py")


PHRASES = "sentence\tlabel\na fine film of birds and men \t1\nof birds \t0\n"


@pytest.fixture
def given(prepare, tmp_path):
    """A folder with everything that is asked for."""
    texts = {"noun": NOUNS, "verb": "", "adj": ADJECTIVES, "adv": ""}
    for part, text in texts.items():
        (tmp_path / f"data.{part}").write_text(text)
    (tmp_path / "words.txt").write_text("film,movie,men,a film,strange thing\nunknown,film,men\n")
    (tmp_path / "sst2").mkdir()
    for name in prepare.SETS:
        (tmp_path / name).write_text(f"1 of {name}")
    (tmp_path / "sst2" / "train.tsv").write_text(PHRASES)
    for name in prepare.FILMS:
        (tmp_path / name).write_text(f"0 Of TREC -- test.all !\n1 a film of {name}")
    return tmp_path


def run(prepare, given):
    prepare.prepare(given, given / "words.txt", given, given / "out")


def lines(folder, name):
    return (folder / "out" / name).read_text().splitlines()


def test_synonyms_are_sentences_with_what_they_are_a_kind_of(prepare, given, capsys):
    run(prepare, given)
    assert lines(given, "wordnet.txt") == [
        "noun entity : that which is perceived",
        "noun bird , feathered friend , entity : has wings , often",
        "noun the bird flew away at 1.5 metres .",
        "adj adducent : drawing ( a limb ) ;",
    ]
    films = lines(given, "films.txt")
    assert films == [f"film a film of {name}" for name in prepare.FILMS], "none of a test part"
    assert lines(given, "TREC.test.all") == ["1 of TREC.test.all"]
    assert capsys.readouterr().out.startswith(
        "wordnet.txt: 4 lines\nthesaurus.txt: 1 lines\nfilms.txt: 2 lines\n"
    )


def test_the_thesaurus_says_what_the_sentences_say(prepare, given, monkeypatch):
    run(prepare, given)
    (line,) = lines(given, "thesaurus.txt")
    assert sorted(line.removeprefix("alike film : ").split(" , ")) == ["a film", "men"]
    monkeypatch.setattr(prepare, "ALIKE", 1)
    words = ["film", "men", "birds", "of", "and", "a"]
    assert len(list(prepare.alike([",".join(words)], set(words)))) == prepare.LINES


def test_what_validation_holds_is_in_no_phrase_of_training(prepare, given, monkeypatch):
    monkeypatch.setattr(prepare, "ONE_IN", 3)
    sentences = [f"the film number {n} is of birds and so on".split() for n in range(60)]
    phrases = (
        {tuple(s): "1" for s in sentences} | {tuple(s[:4]): "0" for s in sentences} | {("birds", "and"): "0"}
    )
    train, held = prepare.split_whole(phrases)
    assert 10 < len(held) < 30 and all(len(s) == 10 for s in held)
    assert set(train) == {p for p in phrases if p[:4] not in {s[:4] for s in held}}
    run(prepare, given)
    parts = [lines(given, f"sst2/{name}.tsv") for name in ("train", "valid")]
    assert all(part[0] == "sentence\tlabel" for part in parts) and sum(map(len, parts)) >= 3


def test_a_line_in_which_a_judged_sentence_stands_is_no_text_to_learn_from(prepare, given):
    (given / "rt-polarity.all").write_text(
        "1 fine . It's slow , very very slow -- and long !\n0 slow and fine\n"
    )
    kept = list(prepare.film_sentences(given, ["it 's slow , very very slow", "fine"]))
    assert kept == ["slow and fine", *kept[1:]] and len(kept) == 3


def test_the_sets_themselves_are_not_written_over(prepare, given):
    with pytest.raises(ConfigError, match="name another folder"):
        prepare.prepare(given, given / "words.txt", given, given)
    assert (given / "sst2" / "train.tsv").read_text() == PHRASES


def test_a_missing_file_is_named(prepare, tmp_path):
    with pytest.raises(InputMissingError, match=r"data\.noun: no such file; WORDNET is"):
        run(prepare, tmp_path)
    assert not list(tmp_path.iterdir())
