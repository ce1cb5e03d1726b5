"""Which weights a run ends with: the mean of its last checkpoints, or those of the best evaluation."""

import errno
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from cutaway import spec
from cutaway.errors import CheckpointSaveError, ConfigError, FileFormatError
from cutaway.spec.check import check_recipe
from cutaway.train import checkpoint, runner, settle
from cutaway.train.language import Language
from cutaway.train.precision import Working
from cutaway.weights.run import list_checkpoints, read_run
from tests.unit.train.tiny import Stop, recipe, remains, train


@pytest.fixture
def scripted(monkeypatch):
    """Evaluations that find the losses one wants, in turn."""

    def script(*losses: float) -> None:
        waiting = iter(losses)
        monkeypatch.setattr(
            Language, "glance", lambda task, model, between: {"validation_sample": next(waiting)}
        )

    return script


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def ended(out) -> dict[str, torch.Tensor]:
    """The weights that a run is loaded with."""
    return {name: p.detach() for name, p in read_run(out).model.named_parameters()}


def test_the_last_checkpoints_are_averaged(text, tmp_path):
    plain = train(recipe(text, save=2), tmp_path / "plain")
    averaged = train(recipe(text, save=2, average=3), tmp_path / "averaged")
    # of 12 steps the mean is over those after 8, 10 and 12; the averaging run keeps 10 and 8 as they were
    kept = [weights(folder) for folder in list_checkpoints(averaged)[:-1]]
    last = weights(list_checkpoints(plain)[-1])
    assert [folder.name for folder in list_checkpoints(averaged)] == [
        f"step-{step:06d}" for step in (8, 10, 12)
    ]
    for name, found in ended(averaged).items():
        mean = (kept[0][name].double() + kept[1][name].double() + last[name].double()) / 3
        assert torch.equal(found, mean.float())
        assert not torch.equal(found, last[name]) or found.abs().sum() == 0


def test_an_interrupted_run_is_averaged_to_the_same_bytes(text, tmp_path):
    plan = recipe(text, save=2, average=3)
    whole, out = train(plan, tmp_path / "whole"), tmp_path / "run"
    for step in (5, 11):
        with pytest.raises(Exception, match="after step"):
            train(plan, out, resume=out.exists(), say=Stop(step, 15))
    train(plan, out, resume=True)
    assert ended(out).keys() == ended(whole).keys()
    assert all(torch.equal(weight, ended(whole)[name]) for name, weight in ended(out).items())
    assert remains(out) == remains(whole)


def test_a_damaged_checkpoint_is_not_averaged(text, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(runner.Runner, "save", spoiling(runner.Runner.save, out))
    with pytest.raises(FileFormatError, match="step-000010"):
        train(recipe(text, save=5, average=2), out)


def spoiling(save, out):
    def save_and_spoil(self, training):
        save(self, training)
        path = out / "checkpoints" / f"step-{training.done:06d}" / "model.safetensors"
        if training.done == 10 and path.exists():
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)

    return save_and_spoil


def test_training_ends_for_want_of_patience_and_goes_back_to_the_best(text, tmp_path, scripted):
    scripted(3.0, 2.0, 2.5, 2.0, 1.0)
    out = train(recipe(text, evaluate=2, save=2, patience=2), tmp_path / "run")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 8  # an equal loss is no better one
    assert settle.best_folders(out)[-1].name == "best-000004"
    best = weights(settle.best_folders(out)[-1])
    assert all(torch.equal(best[name], found) for name, found in ended(out).items())
    before = remains(out)
    assert remains(train(recipe(text), out, resume=True)) == before  # over is over


def test_the_best_comes_back_at_the_end_of_all_steps(text, tmp_path, scripted):
    scripted(3.0, 1.0, 2.0, 1.5)
    out = train(recipe(text, evaluate=3, patience=9), tmp_path / "run")
    assert settle.best_folders(out)[-1].name == "best-000006"
    scripted(3.0, 1.0, 2.0, 0.5)
    last = train(recipe(text, evaluate=3, patience=9), tmp_path / "last")
    assert settle.best_folders(last)[-1].name == "best-000012"
    plain = train(recipe(text, steps=12, save=6), tmp_path / "plain")
    after_six = weights(list_checkpoints(plain)[0])
    assert all(torch.equal(after_six[name], found) for name, found in ended(out).items())


def test_patience_survives_an_interruption(text, tmp_path, scripted):
    plan = recipe(text, evaluate=2, save=2, patience=2)
    scripted(3.0, 2.0, 2.5, 2.2, 1.0)
    whole = remains(train(plan, tmp_path / "whole"))
    scripted(3.0, 2.0, 2.5)
    out = tmp_path / "run"
    with pytest.raises(Exception, match="after step 6"):
        train(plan, out, say=Stop(6, 15))
    scripted(2.2, 1.0)
    assert remains(train(plan, out, resume=True)) == whole


@pytest.mark.parametrize(
    ("losses", "since", "last_is_best"),
    [([], 0, None), ([2.0], 0, True), ([2.0, 3.0], 1, False), ([3.0, 2.0, 2.0], 1, False), ([2, 1], 0, True)],
)
def test_waiting(losses, since, last_is_best):
    assert settle.waited(losses) == since
    if losses:
        assert settle.better(losses) is last_is_best


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"average": 2}, "give save"),
        ({"patience": 2}, "give evaluate"),
        ({"average": 2, "save": 1, "patience": 2, "evaluate": 1}, "one of the two"),
        ({"average": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(values, said, text):
    with pytest.raises(ConfigError, match=said):
        check_recipe(recipe(text, **values))
    check_recipe(recipe(text, save=1, average=2))
    assert spec.Run().average == 1


class Closed(Stop):
    """Its reader is gone when the weights that a run ends with are told."""

    def say(self, text: str) -> None:
        if "the weights are" in text:
            raise BrokenPipeError


def test_whatever_ends_the_settling_the_weights_are_the_same(text, tmp_path, monkeypatch):
    plan = recipe(text, save=2, average=3)
    whole = remains(train(plan, tmp_path / "whole"))
    with pytest.raises(BrokenPipeError):
        train(plan, tmp_path / "pipe", say=Closed(99))
    assert remains(train(plan, tmp_path / "pipe", resume=True)) == whole
    refresh, calls = Working.refresh, iter(range(99))

    def interrupted(self):
        refresh(self)
        if next(calls) == plan.run.steps:  # one for each step, and then that of the settled weights
            raise KeyboardInterrupt

    monkeypatch.setattr(Working, "refresh", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(plan, tmp_path / "second")
    assert [folder.name for folder in list_checkpoints(tmp_path / "second")][-1] == "step-000010"
    monkeypatch.undo()
    assert remains(train(plan, tmp_path / "second", resume=True)) == whole


@pytest.mark.parametrize("killed", [False, True])
def test_a_step_that_is_saved_anew_is_never_lost(killed, text, tmp_path, monkeypatch):
    plan, out = recipe(text, evaluate=4, patience=9), tmp_path / "run"
    whole = remains(train(plan, tmp_path / "whole"))
    with pytest.raises(Exception, match="after step 12"):
        train(plan, out, say=Stop(12, 15))
    before = weights(list_checkpoints(out)[-1])
    if killed:
        folder = out / "checkpoints" / "step-000012"
        folder.rename(folder.with_name("replaced-step-000012"))
    else:
        monkeypatch.setattr(checkpoint, "write_tensors", full)
        with pytest.raises(CheckpointSaveError):
            train(plan, out, resume=True)
        monkeypatch.undo()
        assert all(torch.equal(before[name], w) for name, w in weights(list_checkpoints(out)[-1]).items())
    assert remains(train(plan, out, resume=True)) == whole
    assert not list((out / "checkpoints").glob("replaced-*"))


def full(path, tensors):
    raise OSError(errno.EACCES, "no")


def test_the_best_of_an_older_checkpoint_stays_until_it_is_not_needed(text, tmp_path, scripted):
    plan, out = recipe(text, evaluate=2, save=6, patience=9), tmp_path / "run"
    scripted(2.0, 3.0, 3.0, 1.0)
    with pytest.raises(Exception, match="after step 9"):
        train(plan, out, say=Stop(9, 15))
    assert [folder.name for folder in settle.best_folders(out)] == ["best-000002", "best-000008"]
    shutil.rmtree(out / "checkpoints" / "step-000009")  # as if it had been killed there
    scripted(5.0, 5.0, 5.0)
    train(plan, out, resume=True)
    assert [folder.name for folder in settle.best_folders(out)] == ["best-000002"]
    best = weights(settle.best_folders(out)[-1])
    assert all(torch.equal(best[name], found) for name, found in ended(out).items())
    scripted(2.0, 1.0, 3.0, 0.5, 3.0, 3.0)
    once = train(plan, tmp_path / "once")
    assert [folder.name for folder in settle.best_folders(once)] == ["best-000004", "best-000008"]


def test_an_edited_recipe_averages_no_second_time(text, tmp_path):
    out = train(recipe(text, save=2, average=3), tmp_path / "run")
    before = remains(out)["weights"]
    told = (out / "recipe.toml").read_text()
    (out / "recipe.toml").write_text(told.replace("steps = 12", "steps = 12  # enough"))
    with pytest.warns(UserWarning, match="has changed"):
        assert remains(train(recipe(text), out, resume=True))["weights"] == before
    (out / "recipe.toml").write_text(told.replace("steps = 12", "steps = 14"))
    with pytest.warns(UserWarning, match="has changed"):
        assert remains(train(recipe(text), out, resume=True))["step"] == "step-000014"
