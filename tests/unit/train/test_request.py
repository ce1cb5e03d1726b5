"""`cutaway.train(...)` from Python, and a run's metrics as TensorBoard reads them."""

import builtins
import json
import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest

import cutaway
from cutaway import spec
from cutaway.errors import ConfigError, InputMissingError, MissingExtraError
from cutaway.spec.write import write_recipe
from cutaway.train.tensorboard import write_events
from tests.unit.train.tiny import recipe, remains, train


def test_a_recipe_by_path_folder_or_record_is_the_same_run(text, tmp_path):
    plan = recipe(text)
    folder = tmp_path / "recipe"
    folder.mkdir()
    (folder / "recipe.toml").write_text(write_recipe(plan))
    whole = remains(train(replace(plan, run=replace(plan.run, steps=3)), tmp_path / "whole"))
    for number, given in enumerate((plan, folder, str(folder / "recipe.toml"))):
        result = cutaway.train(given, out=tmp_path / str(number), steps=3)
        assert remains(result.out) == whole
        assert result.figures.keys() >= {"validation", "bits_per_byte"}
        assert os.fspath(result) == str(tmp_path / str(number))


def test_a_shipped_recipe_by_name(monkeypatch, text, tmp_path):
    seen = []
    monkeypatch.setattr("cutaway.train.request.Runner.train", lambda self, resume: seen.append(self))
    monkeypatch.chdir(tmp_path)
    cutaway.train("stdlib", steps=200, seed=3)
    assert seen[0].recipe.name == "stdlib" and seen[0].out == Path("runs/stdlib")
    assert (seen[0].recipe.run.steps, seen[0].recipe.run.seed) == (200, 3)


@pytest.mark.parametrize(
    ("given", "values", "said"),
    [
        ("stdlbi", {}, "recipe 'stdlbi' unknown; did you mean stdlib"),
        ("stdlib", {"setps": 3}, "train: setps is no value of a run; did you mean steps"),
        ("stdlib", {"steps": 0}, "train: run.steps: 0 must be at least 1"),
        ("stdlib", {"batch": 5, "accumulate": 2}, "accumulate: 2 does not divide batch, 5"),
    ],
)
def test_mistakes_are_named_before_anything_is_made(given, values, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        cutaway.train(given, **values)
    assert not list(tmp_path.iterdir())


def test_what_is_asked_of_a_run_that_goes_on_must_be_what_it_has(text, tmp_path):
    out = train(recipe(text, steps=3), tmp_path / "run")
    assert cutaway.train(recipe(text), out=out, resume=True, steps=3).counters["tokens"] == 3 * 4 * 16
    before = remains(out)
    with pytest.raises(ConfigError, match=r"recipe\.toml: run\.steps: 3 in this run, 5 .* change that"):
        cutaway.train(recipe(text), out=out, resume=True, steps=5)
    with pytest.raises(ConfigError, match=r"run\.threads: .* leave the option out, or begin a new run"):
        cutaway.train(recipe(text, steps=3), out=out, resume=True, threads=2)
    with pytest.raises(ConfigError, match=r"run\.steps: 3 in this run, 9 "):
        cutaway.train(recipe(text, steps=9), out=out, resume=True)
    with pytest.raises(ConfigError, match="name: tiny in this run, stdlib asked for"):
        cutaway.train("stdlib", out=out, resume=True)
    assert remains(out) == before


def test_load_takes_the_result(text, tmp_path):
    result = cutaway.train(recipe(text), out=tmp_path / "run", steps=2)
    assert isinstance(cutaway.load(result).model.plan, spec.Single)


def test_events_without_tensorboard_name_the_extra(text, tmp_path, monkeypatch):
    find = builtins.__import__

    def missing(name, *rest, **more):
        if name.startswith(("tensorboard", "torch.utils.tensorboard")):
            raise ModuleNotFoundError(name)
        return find(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(MissingExtraError, match=r'pip install "cutaway\[tensorboard\]"'):
        write_events(tmp_path)


def test_a_number_that_was_not_finite_is_no_event(tmp_path, monkeypatch):
    writer = MagicMock()
    monkeypatch.setattr("cutaway.train.tensorboard.find_writer", lambda: writer)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": null, "rate": 0.5, "seconds": 2.0}\n')
    write_events(tmp_path)
    scalars = writer.return_value.__enter__.return_value.add_scalar.call_args_list
    assert [call.args for call in scalars] == [("rate", 0.5, 1), ("seconds", 2.0, 1)]


def test_events_are_what_metrics_say(text, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with pytest.raises(InputMissingError, match=r"metrics\.jsonl: no metrics"):
        write_events(tmp_path)
    out = train(recipe(text, sample=4), tmp_path / "run")
    write_events(out)
    found = EventAccumulator(str(write_events(out)))  # the second time replaces the first
    found.Reload()
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    assert {e.step: e.value for e in found.Scalars("loss")} == pytest.approx(dict(losses))
    assert "validation" in found.Tags()["scalars"] and "sample/text_summary" in found.Tags()["tensors"]
