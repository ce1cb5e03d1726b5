"""The recipes that fine-tune, with a small model in place of the real one: `--start`, texts, side by side."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cutaway import load, spec
from cutaway.app.cli import main
from cutaway.data.tokenizer import byte_tokenizer
from cutaway.models import build
from cutaway.session import Session
from cutaway.train.runner import Runner
from tests.recipes.scripts import script

STYLE = "To be, or not to be, that is the question:\nWhether 'tis nobler in the mind to suffer\n" * 40


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The working folder, with a cache of its own; a run of a recipe takes two small steps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path / "cache"))
    begin = Runner.__init__

    def small(self, recipe, out, **options):
        run = replace(recipe.run, steps=2, batch=4, length=32, evaluate=1, threads=1, precision="fp32")
        begin(self, replace(recipe, run=run), out, **options)

    monkeypatch.setattr(Runner, "__init__", small)
    return tmp_path


def published(plan: spec.Single, folder: Path) -> str:
    return str(Session(build(plan, 5).eval(), byte_tokenizer(), 512).save_pretrained(folder))


def run(capsys, *arguments: str) -> dict:
    code = main(["recipes", "run", *arguments, "--json"])
    told = capsys.readouterr()
    assert code == 0, told.err
    return json.loads(told.out)


def test_a_style_by_adapters_and_what_is_forgotten(place, capsys):
    start = published(spec.small(layers=1, width=16, heads=2, vocab=257), place / "base")
    (place / "style.txt").write_text(STYLE)
    asked = ["finetune-smollm2", "--seed", "1", "--data", "style.txt", "--start", start]
    result = run(capsys, *asked, "--results", "mine")
    assert result["command"].endswith(f"--data style.txt --start {start}")
    assert {"validation", "bits_per_byte", "general"} <= result["figures"].keys()
    assert result["value"] == result["figures"]["validation"] and "start" in result["facts"]
    out = place / "runs" / "finetune-smollm2-seed-1"
    assert (out / "frozen").is_dir() and (out / "report.html").is_file()
    page = script("finetune-smollm2", "compare.py").compare(out)
    assert f"{result['figures']['general']:.4f} |" in page and page.count("before, ") == 3
    cells = next(line for line in page.splitlines() if "never learned" in line).split("|")
    assert abs(float(cells[2]) - result["figures"]["general"]) < 0.2


def test_an_encoder_learns_to_sort(place, capsys):
    plan = replace(spec.bert(layers=1, width=16, heads=2, vocab=257, length=64), head=spec.Vectors())
    start = published(plan, place / "base")
    for name in ("TREC.train.all", "TREC.test.all"):
        kinds = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
        (place / name).write_text("".join(f"{kinds[i % 6]} who is {i} ?\n" for i in range(200)))
    asked = ["finetune-minilm", "--seed", "1", "--data", ".", "--start", start, "--results", "mine"]
    result = run(capsys, *asked)
    made = load(place / "runs" / "finetune-minilm-seed-1")
    assert isinstance(made.spec, spec.Single) and made.spec.head == spec.Classify(6, "mean")
    assert made.labels == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert 0 <= result["value"] <= 1


def test_what_begins_with_nothing_takes_no_start(place, capsys):
    assert main(["recipes", "run", "reverse", "--seed", "1", "--start", "x"]) == 2
    assert "--start: reverse begins with random weights" in capsys.readouterr().err


def test_a_start_that_is_not_there_is_told_before_anything_is_trained(place, capsys):
    (place / "style.txt").write_text(STYLE)
    for start in ("nowhere", "runs/nothing"):
        assert main(["train", "finetune-smollm2", "--data", "style.txt", "--start", start]) == 66
        told = capsys.readouterr().err
        assert told.startswith(f"cutaway: start: {start}: no such run or model") and told.count("\n") == 1
