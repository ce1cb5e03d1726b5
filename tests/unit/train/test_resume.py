"""Interrupted anywhere, any number of times: the same bytes as the uninterrupted run (reliability T8)."""

import itertools
import warnings
from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters

from cutaway.train import loop
from cutaway.train.optim import Optimizers
from cutaway.train.signals import RunInterruptedError
from cutaway.weights.run import list_checkpoints
from tests.unit.train.tiny import OPTIMIZERS, RUN, Stop, recipe, remains, train

STEPS = RUN.steps
WAYS = list(itertools.product(["fp32", "bf16"], OPTIMIZERS))


@pytest.fixture(scope="module")
def whole(text: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory):
    """What an uninterrupted run leaves, made once for each way of running."""
    made: dict[tuple[str, str], dict] = {}

    def run(precision: str, optimizer: str) -> dict:
        if (precision, optimizer) not in made:
            plan = recipe(text, precision=precision, optimizer=OPTIMIZERS[optimizer], evaluate=5)
            made[precision, optimizer] = remains(train(plan, tmp_path_factory.mktemp("whole") / "run"))
        return made[precision, optimizer]

    return run


def interrupt(plan, out: Path, steps) -> Path:
    """Train, interrupted after each of some steps."""
    for number, step in enumerate(steps):
        with pytest.raises(RunInterruptedError):
            train(plan, out, resume=number > 0, say=Stop(step))
        assert list_checkpoints(out)[-1].name == f"step-{step:06d}"
    return train(plan, out, resume=True)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
def test_once_after_any_step(step, whole, text, tmp_path):
    plan = recipe(text, precision="bf16", optimizer=OPTIMIZERS["muon"], evaluate=5)
    assert remains(interrupt(plan, tmp_path / "run", [step])) == whole("bf16", "muon")


@pytest.mark.parametrize("steps", [(3, 4, 9), range(1, STEPS + 1)], ids=["3 times", "after every step"])
@pytest.mark.parametrize(("precision", "optimizer"), WAYS)
def test_many_times(precision, optimizer, steps, whole, text, tmp_path):
    plan = recipe(text, precision=precision, optimizer=OPTIMIZERS[optimizer], evaluate=5)
    assert remains(interrupt(plan, tmp_path / "run", steps)) == whole(precision, optimizer)


def test_saving_along_the_way_changes_nothing(whole, text, tmp_path):
    plan = recipe(text, evaluate=5, save=2, sample=3)
    found = remains(train(plan, tmp_path / "run"))
    along = [line for line in found["figures"] if "sample" in line and line["step"] != STEPS]
    assert len(along) == STEPS // 3 - (STEPS % 3 == 0)
    found["figures"] = [line for line in found["figures"] if line not in along]
    assert found == whole("fp32", "adamw")


def differs(plan, out: Path, whole: dict) -> set[str]:
    found = remains(interrupt(plan, out, [7]))
    return {name for name in found if found[name] != whole[name]}


def test_random_numbers_that_go_on_from_where_the_process_began_would_be_found(
    whole, text, tmp_path, monkeypatch
):
    expected, counter = whole("fp32", "adamw"), itertools.count()
    monkeypatch.setattr(loop, "random_seed", lambda seed, step, place: next(counter))
    assert {"weights", "figures"} <= differs(recipe(text, evaluate=5), tmp_path / "run", expected)


@pytest.mark.parametrize("lost", ["step", "exp_avg", "exp_avg_sq"])
def test_optimizer_state_that_is_lost_would_be_found(lost, whole, text, tmp_path, monkeypatch):
    expected, load = whole("fp32", "adamw"), Optimizers.load_state_dict

    def forget(self, state, path=""):
        kept = {n: torch.zeros_like(v) if n.endswith(f"/{lost}") else v for n, v in state.items()}
        load(self, kept, path)

    monkeypatch.setattr(Optimizers, "load_state_dict", forget)
    assert {"weights", "optimizer"} <= differs(recipe(text, evaluate=5), tmp_path / "run", expected)


@pytest.mark.slow
@pytest.mark.compiled
def test_compiled(text, tmp_path):
    """With other shapes in the evaluations, which must not be compiled."""
    plan = recipe(
        text, precision="bf16", optimizer=OPTIMIZERS["muon"], compile="on", steps=6, evaluate=4, sample=2
    )
    torch.compiler.reset()  # what tests before this one compiled in the same process
    counters.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own, which differ by version
        whole = remains(train(plan, tmp_path / "whole"))
        assert counters["stats"]["unique_graphs"] == 1
        assert remains(interrupt(plan, tmp_path / "run", [2, 5])) == whole
