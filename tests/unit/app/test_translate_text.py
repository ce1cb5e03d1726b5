"""`cutaway translate` and what it reads: text that was cut, or not, other languages, a byte-order mark."""

import io
import sys

import pytest

from cutaway import spec
from cutaway.app.cli import main
from cutaway.app.options import read_text
from cutaway.app.translate import read_lines
from cutaway.errors import ConfigError, InputMissingError
from cutaway.session import load
from tests.unit.train.tiny import RUN, train

PAIRS = {
    "marked": [("zwei män@@ ner", "two men"), ("ein mann , ein hut", "a man , a h@@ at")],
    "bpe": [("zwei männer", "two men"), ("ein mann, ein hut", "a man, a hat")],
}
CODES = "#version: 0.2\nz w\ne i</w>\nzw ei</w>\nm ä\nmä n\nn e\nne r</w>\n"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each kind of tokenizer, trained for two steps."""
    pytest.importorskip("sacrebleu")
    made = {}
    for kind, pairs in PAIRS.items():
        folder = tmp_path_factory.mktemp(kind)
        for part in ("train", "val"):
            for language, side in zip(("de", "en"), zip(*pairs, strict=True), strict=True):
                (folder / f"{part}.{language}").write_text("\n".join(side * 4) + "\n")
        data = spec.Parallel(str(folder), tokenizer=kind, vocab=300)
        run = spec.Run(**(vars(RUN) | {"steps": 2, "batch": 64, "length": 32, "optimizer": spec.AdamW()}))
        model = spec.quick_pair(layers=1, width=16, heads=2, dropout=0.0)
        made[kind] = str(train(spec.Recipe(kind, model, data, run), folder / "run"))
    return made


@pytest.fixture
def say(capsys, monkeypatch):
    def translate(run, text, *arguments, code=0):
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))
        capsys.readouterr()
        assert main(["translate", "-m", run, "--max-tokens", "5", *arguments]) == code
        return capsys.readouterr()

    return translate


@pytest.fixture
def codes(tmp_path):
    path = tmp_path / "codes"
    path.write_text(CODES)
    return str(path)


def test_codes_cut_what_a_marked_run_reads(runs, say, codes):
    cut = say(runs["marked"], "zwei män@@ ner\n")
    plain = say(runs["marked"], "zwei männer\n", "--codes", codes)
    assert plain.out == cut.out and plain.err == cut.err == ""


def test_text_that_was_not_cut_is_told_of_codes(runs, say):
    (told,) = say(runs["marked"], "zwei männer\nMänner, männer\n").err.splitlines()
    assert told.startswith("cutaway: line 2: 100% of its tokens are unknown to the model: was it cut")
    assert "(--codes)" in told


def test_codes_that_do_not_fit_are_refused(runs, say, codes):
    said = say(runs["bpe"], "zwei männer\n", "--codes", codes, code=ConfigError.exit_code)
    assert said.out == "" and "codes: this model did not learn from text that codes had cut" in said.err
    said = say(runs["marked"], "", "--codes", "nowhere", code=InputMissingError.exit_code)
    assert "nowhere: no such file; name the codes" in said.err


def test_a_foreign_script_is_noticed_and_translated_all_the_same(runs, say):
    said = say(runs["bpe"], "два человека\nzwei männer\ndeux hommes\n两个人\n")
    assert said.out.count("\n") == 4
    assert [line.split(": ")[1] for line in said.err.splitlines()] == ["line 1", "line 4"]
    assert "100% of its characters are unknown to the model: is it of the right language?" in said.err


@pytest.mark.parametrize("kind", PAIRS)
def test_a_byte_order_mark_is_no_part_of_the_first_sentence(runs, say, kind, tmp_path):
    text = "zwei mann\nzwei mann\n"
    plain = say(runs[kind], text, "--json")
    assert say(runs[kind], "\ufeff" + text, "--json") == plain
    read = load(runs[kind]).tokenizer.encode
    assert read("\ufeffzwei").tolist() != read("zwei").tolist(), "control: it would be"
    path = tmp_path / "right.txt"
    path.write_text("\ufefftwo men\na \ufeffman\n")
    assert read_lines(str(path)) == read_text(str(path)).splitlines() == ["two men", "a \ufeffman"]
