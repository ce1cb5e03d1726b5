"""`recipes run` and `verify`: what cannot be judged is refused before anything is trained, a result is of the
recipe's own text or says of which, and a run leaves its page.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from cutaway.app.cli import main
from cutaway.app.results import SeedResult, read_expected, read_results, write_result
from cutaway.data import download
from cutaway.spec.recipes import shipped_recipes
from cutaway.train.runner import Runner

NAME = "tinyshakespeare:"
TEXT = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 40
OTHER = TEXT.replace("question", "answer")
RECIPE = """
format = 1
name = "tiny"
model = {preset = "quick", layers = 1, width = 16, heads = 2}
data = {kind = "Text", source = ["tinyshakespeare:"], tokenizer = "characters", split = "tail"}
run = {steps = 2, batch = 2, length = 16, threads = 1, precision = "fp32", compile = "off"}
"""


@pytest.fixture(autouse=True)
def tiny(tmp_path, monkeypatch):
    """A recipe of our own in the working folder, whose public text is a short one that lies in the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "cache"))
    digest = hashlib.sha256(TEXT.encode()).hexdigest()
    public = download.Public("https://nowhere.invalid/input.txt", len(TEXT), digest, "public domain")
    monkeypatch.setitem(download.PUBLIC, NAME, public)
    Path("copy.txt").write_text(TEXT)
    Path("other.txt").write_text(OTHER)
    assert download.keep_copy(NAME, "copy.txt")
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "expected.json").write_bytes(
        (shipped_recipes()["shakespeare-small"] / "expected.json").read_bytes()
    )
    return folder


@pytest.fixture
def untrained(monkeypatch):
    """Fails the test where something is trained."""

    def train(self, resume=False):
        raise AssertionError("something was trained")

    monkeypatch.setattr(Runner, "train", train)


def ends(capsys, *arguments):
    """Exit code, standard output and standard error of `cutaway recipes ...`."""
    capsys.readouterr()
    code = main(["recipes", *arguments])
    told = capsys.readouterr()
    return code, told.out, told.err


def run(capsys, *arguments):
    code, out, err = ends(capsys, "run", "tiny", "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


def refused(capsys, *arguments):
    code, out, err = ends(capsys, *arguments)
    assert out == "" and err.startswith("cutaway: ") and err.count("\n") == 1
    return code, err


def committed(tiny, **facts):
    """A result that somebody committed before."""
    result = SeedResult("tiny", 1, 1.9, {}, 1.0, 64, 9, "cutaway recipes run tiny --seed 1", None, facts, ())
    write_result(tiny / "results", result)
    return result


def test_what_cannot_be_judged_is_not_trained(tiny, capsys, untrained):
    promise = json.loads((tiny / "expected.json").read_text())
    (tiny / "expected.json").write_text(json.dumps(promise | {"published": None}))
    code, err = refused(capsys, "verify", "tiny", "--seed", "1")
    assert code == 2 and "nothing is published and no seed committed: use `cutaway recipes run`" in err
    (tiny / "expected.json").write_text(json.dumps(promise))
    with pytest.raises(AssertionError, match="trained"):  # the control
        main_uncaught("verify", "tiny", "--seed", "1")


def main_uncaught(*arguments):
    from cutaway.app.recipes import run as command

    command(list(arguments))


def test_another_text_neither_replaces_a_result_nor_is_judged_by_one(tiny, capsys, untrained):
    before = committed(tiny, data="a digest")
    for command, remedy in (("run", "or name another folder by --results"), ("verify", "leave --data out")):
        code, err = refused(capsys, command, "tiny", "--seed", "1", "--data", "other.txt")
        assert code == 2 and "--data other.txt: not the text that the seeds in" in err and remedy in err
    assert read_results(tiny) == [before]
    (tiny / "results" / "seed-1.json").unlink()
    code, err = refused(capsys, "verify", "tiny", "--seed", "1", "--data", "other.txt")
    assert code == 2 and "--data: what is published is not of this text" in err


def test_a_result_of_another_text_says_so(tiny, capsys):
    asked = ("--seed", "1", "--data", "other.txt")
    written = run(capsys, *asked, "--results", "mine")
    assert written["command"] == "cutaway recipes run tiny --seed 1 --data other.txt"
    assert not (tiny / "results").exists()
    (tiny / "results").symlink_to(Path("mine").resolve())
    code, err = refused(capsys, "run", "tiny", "--seed", "2")
    assert code == 2 and "tiny: not the text" in err and "give the --data that their commands name" in err
    again = run(capsys, "--seed", "2", "--data", "other.txt")
    assert again["facts"]["data"] == written["facts"]["data"]


def test_a_copy_of_the_standard_text_is_the_standard_text(tiny, capsys):
    own = run(capsys, "--seed", "1")
    copied = run(capsys, "--seed", "1", "--data", "copy.txt", "--out", "runs/copied")
    assert own["command"] == copied["command"] == "cutaway recipes run tiny --seed 1"
    assert (own["facts"], own["value"]) == (copied["facts"], copied["value"])
    Path("elsewhere").mkdir()
    Path("elsewhere/input.txt").write_text(TEXT)  # found out by the digest, where the text is not public
    named = RECIPE.replace(NAME, "elsewhere/input.txt")
    (tiny / "recipe.toml").write_text(named)
    Path("input.txt").write_text(TEXT)
    found = run(capsys, "--seed", "1", "--data", "input.txt", "--out", "runs/found")
    assert found["command"] == own["command"] and found["facts"] == own["facts"]


def test_the_downloaded_text_is_called_as_at_its_source():
    """The name is part of the digest, by which shipped results know their text: theirs was input.txt."""
    assert Path(download.fetch(NAME)).name == "input.txt"


def test_a_run_in_the_way_has_a_remedy_that_exists(tiny, capsys):
    run(capsys, "--seed", "1")
    for command in ("run", "verify"):
        code, err = refused(capsys, command, "tiny", "--seed", "1")
        assert (
            code == 73 and "runs/tiny-seed-1: holds a run already; choose another --out or delete it" in err
        )
        assert "--resume" not in err
    assert ends(capsys, "verify", "tiny", "--seed", "1", "--out", "runs/other")[0] == 0


def test_run_and_verify_leave_the_page(tiny, capsys):
    _, out, _ = ends(capsys, "run", "tiny", "--seed", "1")
    assert out.rstrip().endswith("report: runs/tiny-seed-1/report.html")
    _, out, _ = ends(capsys, "verify", "tiny", "--seed", "1", "--out", "runs/again")
    assert "agrees with" in out and out.rstrip().endswith("report: runs/again/report.html")
    for page in Path("runs").glob("*/report.html"):
        assert page.read_text().startswith("<!doctype html>")
    assert len(list(Path("runs").glob("*/report.html"))) == 2


def test_a_result_says_how_its_figure_was_counted(tiny, capsys, monkeypatch):
    details = {"validation": "counted so", "validation_tail": "counted otherwise"}
    monkeypatch.setattr("cutaway.train.runner.details_of", lambda task: details)
    _, out, _ = ends(capsys, "run", "tiny", "--seed", "1")
    assert "counted so" in out.splitlines() and "otherwise" not in out
    assert [result.details for result in read_results(tiny)] == [details]


def test_a_result_of_before_the_digest_was_kept_says_nothing_of_a_text(tiny, capsys):
    result = committed(tiny)
    assert run(capsys, "--seed", "2", "--data", "other.txt")["command"].endswith("--data other.txt")
    assert replace(result) in read_results(tiny) and read_expected(tiny).published is not None
