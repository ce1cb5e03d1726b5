"""What a finished run says: its figures part by part, how BLEU was counted, and why there is no report."""

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from cutaway.app.cli import main
from cutaway.app.outcome import Outcome, describe, parts
from cutaway.study.figures import MEASURES

OUTCOME = Outcome("runs/some", {"validation": 1.25}, {}, {}, 60.4, 1_234, "a sample", "runs/some/report.html")
SMALL = ("--steps", "2", "--threads", "1", "--precision", "fp32", "--evaluate", "0")
MODEL = ("--model.layers", "1", "--model.width", "16", "--model.heads", "2")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working folder with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "cache"))


def test_each_part_has_a_line_of_its_own():
    figures = {"validation": 1.2, "validation_bleu": 30.0, "test": 1.3, "test_bleu": 28.25, "general": 4.5}
    told = describe(replace(OUTCOME, figures=figures, details={"test_bleu": "BLEU4 = 28.25, and so on"}))
    assert told[:4] == [
        "whole validation data: validation 1.2000, validation bleu 30.0000",
        "whole test data: test 1.3000, test bleu 28.2500",
        "sample of data.general: general 4.5000",
        "test bleu: BLEU4 = 28.25, and so on",
    ]
    assert told[-1] == "report: runs/some/report.html"
    assert describe(replace(OUTCOME, report=""))[-1] == "  | a sample"
    for part, names in parts(MEASURES).items():
        assert all(name.startswith("test") == (part == "whole test data") for name in names)


def test_a_run_of_which_nothing_can_be_shown_ends_as_any_other(capsys):
    Path("text.txt").write_text("to be or not to be\n" * 100)
    given = ("--batch", "2", "--length", "1", "--data.tokenizer", "bytes", "--out", "runs/short")
    assert main(["train", "text.txt", *SMALL, *MODEL, *given]) == 0
    said = capsys.readouterr()
    assert "whole validation data: validation" in said.out and "report:" not in said.out
    (line,) = (line for line in said.err.splitlines() if "no report" in line)
    assert line.startswith("cutaway: warning: no report: the report needs a text of two or more tokens")
    assert not Path("runs/short/report.html").exists()


@pytest.mark.parametrize(
    ("german", "english", "shown"),
    [
        (("ein Satz", "ein Satz"), ("", "A Phrase"), True),
        (("ein Satz", ""), ("", "A Phrase"), False),
    ],
)
def test_a_first_validation_line_without_words_costs_no_outcome(capsys, german, english, shown):
    pytest.importorskip("sacrebleu")
    Path("pairs").mkdir()
    for language, learned, judged in (("de", "ein Satz\n", german), ("en", "A Phrase\n", english)):
        Path(f"pairs/train.{language}").write_text(learned * 20)
        Path(f"pairs/test_2016_flickr.{language}").write_text(learned * 4)
        Path(f"pairs/val.{language}").write_text("\n".join(judged) + "\n")
    given = ("--batch", "128", "--data", "pairs", "--model.hidden", "16", "--out", "runs/pairs")
    arguments = ["train", "translate-quick", *SMALL, *MODEL, *given]
    assert main([*arguments, "--data.no-lower"]) == 0
    said = capsys.readouterr()
    assert Path("runs/pairs/report.html").exists() == shown
    assert ("no report: no validation example has words" in said.err) != shown
    detail = next(line for line in said.out.splitlines() if line.startswith("test bleu: BLEU4 = "))
    assert "case:mixed" in detail and "(BP=" in detail
    with nullcontext() if shown else pytest.warns(UserWarning, match="no report"):
        assert main([*arguments, "--data.no-lower", "--resume", "--json"]) == 0
    details = json.loads(capsys.readouterr().out)["details"]
    assert detail == f"test bleu: {details['test_bleu']}"
    assert details.keys() == {"validation_bleu", "test_bleu_greedy", "test_bleu"}
