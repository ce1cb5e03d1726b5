"""What `bert-small` makes of WordNet's files."""

import importlib.util

import pytest

from cutaway.errors import InputMissingError
from cutaway.spec.recipes import shipped_recipes

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
    path = shipped_recipes()["bert-small/1-pretrain"].parent / "prepare.py"
    plan = importlib.util.spec_from_file_location("bert_small_prepare", path)
    module = importlib.util.module_from_spec(plan)
    plan.loader.exec_module(module)
    return module


def test_synonyms_are_sentences_with_what_they_are_a_kind_of(prepare, tmp_path, capsys):
    texts = {"noun": NOUNS, "verb": "", "adj": ADJECTIVES, "adv": ""}
    for part, text in texts.items():
        (tmp_path / f"data.{part}").write_text(text)
    (tmp_path / "sst2").mkdir()
    for name in prepare.SETS:
        (tmp_path / name).write_text(f"1 of {name}")
    for name in prepare.FILMS:
        (tmp_path / name).write_text(f"0 Of TREC -- test.all !\n1 a film of {name}")
    prepare.prepare(tmp_path, tmp_path, tmp_path / "out")
    assert (tmp_path / "out" / "wordnet.txt").read_text().splitlines() == [
        "noun entity : that which is perceived",
        "noun bird , feathered friend , entity : has wings , often",
        "noun the bird flew away at 1.5 metres .",
        "adj adducent : drawing ( a limb ) ;",
    ]
    films = (tmp_path / "out" / "films.txt").read_text().splitlines()
    assert films == [f"film a film of {name}" for name in prepare.FILMS], "none of a test part"
    assert (tmp_path / "out" / "sst2" / "dev.tsv").read_text() == "1 of sst2/dev.tsv"
    assert capsys.readouterr().out == "wordnet: 4 sentences\nfilms: 2 sentences\n"


def test_a_missing_file_is_named(prepare, tmp_path):
    with pytest.raises(InputMissingError, match=r"data\.noun: no such file; WORDNET is"):
        prepare.prepare(tmp_path, tmp_path, tmp_path / "out")
    assert not list(tmp_path.iterdir())
