"""The recipes' mechanism: promises and results are read strictly, the table computed, verdicts fair."""

import json
import re
import shutil
from dataclasses import asdict, replace

import pytest

from cutaway.app.cli import main
from cutaway.app.results import (
    Expected,
    SeedResult,
    judge,
    read_expected,
    read_results,
    summarise,
    training_curve,
    write_result,
)
from cutaway.errors import ConfigError, InputMissingError
from cutaway.spec import Muon, Parallel
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import find_recipe, group_of, shipped_groups, shipped_recipes

EXPECTED = Expected("validation", "nats", "less", 1.88, "a paper", 0.02, (1, 2, 3))
CITED = re.compile(r"\b(19|20)\d\d\b|^nanoGPT README|^bentrevett, pytorch-seq2seq")
RESULT = SeedResult(
    recipe="shakespeare-small",
    seed=1,
    value=1.87,
    figures={"validation": 1.87, "validation_tail": 1.9},
    seconds=18.25,
    tokens=307_200,
    parameters=800_000,
    command="cutaway recipes run shakespeare-small --seed 1",
    commit="0123456789ab",
    facts={"torch": "2.13.0"},
    curve=((50, 6.5, 2.2), (150, 18.25, 1.87)),
    details={"validation": "how it was counted"},
)


@pytest.fixture
def folder(tmp_path):
    """A recipe of our own with the results of three seeds."""
    made = tmp_path / "shakespeare-small"
    shutil.copytree(shipped_recipes()["shakespeare-small"], made, ignore=shutil.ignore_patterns("results"))
    for seed, value, commit in ((1, 1.87, "aaa"), (2, 1.86, "aaa"), (3, 1.88, "bbb")):
        write_result(made / "results", replace(RESULT, seed=seed, value=value, commit=commit))
    return made


@pytest.mark.parametrize("name", shipped_recipes())
def test_every_recipe_is_whole(name):
    folder = shipped_recipes()[name]
    recipe, expected = read_recipe(folder / "recipe.toml"), read_expected(folder)
    assert recipe.name == folder.name and expected.seeds and expected.source
    assert expected.published is None or CITED.search(expected.source), (
        "a published figure names who and when"
    )
    if isinstance(recipe.data, Parallel) and "sacrebleu" in expected.unit:
        assert ("lower-cased" in expected.unit) == recipe.data.lower
    told, title = (folder.parent, group) if (group := group_of(name)) else (folder, name)
    assert (told / "README.md").read_text().startswith(f"# {title}: ")
    assert "__main__" in (told / "figure.py").read_text()
    for result in read_results(folder):
        assert result.seed in expected.seeds and result.value == result.figures[expected.measure]


def test_a_result_is_read_as_it_was_written(tmp_path):
    (tmp_path / RESULT.recipe).mkdir()
    write_result(tmp_path / RESULT.recipe / "results", RESULT)
    assert read_results(tmp_path / RESULT.recipe) == [RESULT]
    path = tmp_path / RESULT.recipe / "results" / "seed-1.json"
    older = json.loads(path.read_text())
    del older["details"]  # as results were written before there were any
    path.write_text(json.dumps(older))
    assert read_results(tmp_path / RESULT.recipe) == [replace(RESULT, details={})]


def test_the_table_is_computed_from_the_seeds(folder):
    row = summarise(folder)
    assert (row.name, row.published, row.seeds, row.commit) == ("shakespeare-small", 1.88, 3, "aaa bbb")
    assert row.ours == pytest.approx(1.87) and row.spread == pytest.approx(0.02)
    assert row.interval == pytest.approx(4.3027 * 0.01 / 3**0.5, rel=1e-4)
    assert row.command == "cutaway recipes run shakespeare-small --seed K"
    write_result(folder / "results", replace(RESULT, seed=3, value=1.96))
    assert summarise(folder).ours == pytest.approx(1.8966667), "another result must change the table"


def test_the_table_of_the_command_line(folder, capsys, monkeypatch):
    monkeypatch.setattr("cutaway.app.recipes.shipped_recipes", lambda: {folder.name: folder})
    assert main(["recipes", "table", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [asdict(summarise(folder))]
    assert main(["recipes", "table"]) == 0
    head, row = capsys.readouterr().out.rstrip().split("\n")
    assert head.split()[:4] == ["recipe", "published", "ours", "seeds"]
    assert row.split()[:7] == ["shakespeare-small", "1.8800", "1.8700", "3", "0.0200", "0.0248", "18"]


def test_a_recipe_without_seeds_has_no_figure(folder):
    shutil.rmtree(folder / "results")
    row = summarise(folder)
    assert (row.ours, row.spread, row.interval, row.seconds, row.seeds) == (None, None, None, None, 0)
    write_result(folder / "results", RESULT)
    assert summarise(folder).interval is None, "one seed has no interval"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 2}, "holds the result of shakespeare-small, seed 2; rename it"),
        ({"recipe": "other"}, "holds the result of other, seed 1; rename it"),
        ({"sed": 1}, "sed: unknown key; did you mean seed?"),
        ({"value": "low"}, "value: 'low' is not a number"),
        ({"figures": 3}, "figures: 3 is not a table"),
        ({"figures": {"validation": True}}, "figures.validation: true is not a number"),
        ({"curve": [[1, 2.0]]}, "curve[0]: 2 values, but 3 belong here"),
        ({"format": 2}, "format: 2 unknown"),
    ],
)
def test_a_wrong_result_is_refused(folder, change, message):
    path = folder / "results" / "seed-1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigError) as refused:
        summarise(folder)
    assert str(refused.value) == f"{path}: {message}" or str(refused.value).startswith(f"{path}: {message}")


def test_a_missing_promise_is_refused(folder):
    (folder / "expected.json").unlink()
    with pytest.raises(InputMissingError, match=r"expected\.json: not there"):
        summarise(folder)


def results(*values):
    return [replace(RESULT, seed=seed, value=value) for seed, value in enumerate(values)]


@pytest.mark.parametrize(
    ("committed", "value", "agrees"),
    [
        (results(1.87, 1.88), 1.89, True),  # within the tolerance
        (results(1.87, 1.88), 1.90, False),
        (results(1.87, 1.88), 1.80, False),  # better, but not what was committed
        (results(1.80, 1.90), 1.94, True),  # within the spread
        ([], 1.89, True),
        ([], 1.60, True),
        ([], 1.91, False),
    ],
)
def test_verdicts(committed, value, agrees):
    verdict = judge(EXPECTED, committed, value)
    assert verdict.agrees == agrees and f"{value:.4f}" in verdict.said


def test_more_may_be_better():
    more = replace(EXPECTED, better="more", published=0.99, tolerance=0.0)
    assert judge(more, [], 1.0).agrees and not judge(more, [], 0.98).agrees
    with pytest.raises(ConfigError, match="nothing is published"):
        judge(replace(more, published=None), [], 1.0)


def test_the_curve_has_the_seconds_of_training(tmp_path):
    lines = [
        {"step": 1, "loss": 4.0, "seconds": 0.5},
        {"step": 2, "loss": 3.0, "seconds": 1.0},
        {"step": 2, "validation_sample": 3.1},
        {"step": 2, "sample": "text"},
        {"step": 3, "loss": 2.0, "seconds": 1.5},
        {"step": 3, "validation": 2.5, "validation_tail": 2.6},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert training_curve(tmp_path) == ((2, 1.0, 3.1), (3, 1.5, 2.5))


def test_the_figure_is_drawn_from_the_results(folder):
    pytest.importorskip("matplotlib", reason="cutaway[plot] is not installed")
    from cutaway.app.curve import draw_curves

    text = draw_curves(folder).read_text()
    assert text.startswith("<?xml") and "1970" not in text
    assert text == draw_curves(folder).read_text(), "the same results must give the same file"
    shutil.rmtree(folder / "results")
    with pytest.raises(InputMissingError, match="no seed yet"):
        draw_curves(folder)


def test_a_group_is_run_in_turn_and_what_is_there_is_passed_over(tmp_path, monkeypatch, capsys):
    folders = {f"ladder/{name}": tmp_path / "ladder" / name for name in ("1-low", "2-high")}
    for folder in folders.values():
        folder.mkdir(parents=True)
    write_result(folders["ladder/1-low"] / "results", replace(RESULT, recipe="1-low", seed=2))
    monkeypatch.setattr("cutaway.app.recipes.shipped_recipes", lambda: folders)
    monkeypatch.setattr("cutaway.app.recipes.shipped_groups", lambda: {"ladder": tuple(folders)})
    trained: list[tuple[str, int]] = []
    monkeypatch.setattr("cutaway.app.recipes.run_one", lambda o: trained.append((o.name, o.seed)) or 0)
    assert main(["recipes", "run", "ladder", "--seed", "2"]) == 0
    assert trained == [("ladder/2-high", 2)] and "ladder/1-low: there already" in capsys.readouterr().err
    assert main(["recipes", "run", "ladder", "--seed", "2", "--out", str(tmp_path)]) == 2
    assert "leave --out" in capsys.readouterr().err


def test_a_member_of_a_group_begins_with_the_run_of_another(tmp_path):
    folders = shipped_groups()
    assert all(group_of(name) == group for group, names in folders.items() for name in names)
    assert group_of("stdlib") == "" == group_of("nothing/there")
    with pytest.raises(ConfigError, match="a group of recipes; name one of multi30k-ladder/1-lstm"):
        find_recipe("multi30k-ladder")


@pytest.mark.parametrize("group", ["multi30k-ladder", "bottleneck"])
def test_the_rungs_of_a_ladder_differ_in_the_model_and_the_rates_alone(group):
    recipes = [read_recipe(shipped_recipes()[name] / "recipe.toml") for name in shipped_groups()[group]]
    assert len({repr(recipe.model) for recipe in recipes}) == len(recipes)
    for recipe in recipes:
        muon = recipe.run.optimizer
        assert isinstance(muon, Muon) and muon.others.rate == pytest.approx(muon.rate / 5)
    runs = []
    for recipe in recipes:
        muon = recipe.run.optimizer
        alike = replace(muon, rate=1.0, others=replace(muon.others, rate=1.0))
        runs.append(repr((recipe.data, replace(recipe.run, optimizer=alike))))
    assert len(set(runs)) == 1, "data, steps, schedule, momentum and decay are the same"
