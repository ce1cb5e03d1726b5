"""Where a run computes: the choice, what becomes of it, and that nothing stays behind on the processor.

There is no GPU here. The device "meta" stands in for one: it computes shapes only, and refuses to mix its
tensors with others, as a GPU does.
"""

import json
from dataclasses import replace

import pytest
import torch

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.models import build
from cutaway.spec.presets import quick, vaswani
from cutaway.train import choose as chooser
from cutaway.train.choose import Choice, choose, choose_device
from cutaway.train.loss import Batch, next_token_loss, token_losses
from cutaway.train.precision import Working
from cutaway.train.records import read_records
from cutaway.train.reversing import Reversing
from cutaway.train.tasks import make_task
from tests.unit.train.tiny import recipe, train

META = torch.device("meta")
PAIR = vaswani(layers=1, width=16, heads=2)


def gpu(there: bool, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)


@pytest.mark.parametrize(
    ("asked", "there", "device"),
    [
        ("auto", True, "cuda"),
        ("auto", False, "cpu"),
        ("cpu", True, "cpu"),
        ("cpu", False, "cpu"),
        ("cuda", True, "cuda"),
    ],
)
def test_a_gpu_is_taken_where_there_is_one(asked, there, device, monkeypatch):
    gpu(there, monkeypatch)
    assert choose_device(asked) == device


@pytest.mark.parametrize("there", [True, False])
def test_what_is_faster_is_measured_where_the_run_computes(there, monkeypatch):
    """The stand-in's bf16 is faster on the GPU only, and so is its compiled code."""
    gpu(there, monkeypatch)
    seen = []

    def seconds(block, rows, length, dtype, device, *, compiled=False, repeats=3):
        seen.append(device)
        return 1.0 - 0.5 * (device == "cuda" and (compiled or dtype == torch.bfloat16))

    monkeypatch.setattr(chooser, "block_seconds", seconds)
    found = choose(build(quick(layers=1, width=16, heads=2)), spec.Run(steps=10**6, threads=1), 32, 16)
    device = "cuda" if there else "cpu"
    assert set(seen) == {device}
    assert (found.device, found.precision) == (device, "bf16" if there else "fp32")
    assert found.facts()["device"] == device and ("on cuda" in found.told) == there


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_made(text, tmp_path, monkeypatch):
    gpu(False, monkeypatch)
    monkeypatch.setattr("cutaway.train.runner.make_task", lambda *given: pytest.fail("prepared the data"))
    with pytest.raises(ConfigError, match=r"device cuda: torch .* finds no GPU here; take device cpu"):
        train(recipe(text, device="cuda"), tmp_path / "run")
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_the_device_is_a_fact_of_the_run_and_taken_again(text, tmp_path, monkeypatch):
    out = train(recipe(text, steps=2), tmp_path / "run")
    told = json.loads((out / "facts.json").read_text())
    assert told["device"] == "cpu" and read_records(out).choice.device == "cpu"
    (out / "facts.json").write_text(json.dumps(told | {"device": "cuda"}))
    gpu(False, monkeypatch)
    with pytest.raises(ConfigError, match="this run computes on cuda and torch finds no GPU here"):
        train(recipe(text, steps=2), out, resume=True)
    del told["device"]  # as runs were written when there was no other
    (out / "facts.json").write_text(json.dumps(told))
    gpu(True, monkeypatch)
    assert read_records(out).choice == Choice("fp32", "off", 1, "cpu")


def test_a_step_forks_the_random_numbers_of_the_device_it_draws_from():
    working = Working(build(quick(layers=1, width=16, heads=2)), torch.float32)
    assert working.drawing == []
    working.device = torch.device("cuda")
    assert working.drawing == [torch.device("cuda")]


def test_a_batch_moves_whole():
    made = Reversing(spec.Reversal(), spec.Run(batch=4)).parts(0)[0]
    moved = made.to(META)
    assert {t.device for t in (*moved.inputs, moved.targets, *moved.paddings)} == {META}
    assert (len(moved.inputs), len(moved.paddings)) == (2, 2)
    here = made.to(torch.device("cpu"))
    assert here.targets is made.targets and here.inputs[0] is made.inputs[0], "nothing to move"


def cases(text):
    """A model of each kind, with dropout, and a batch as its task makes it: on the processor."""
    plan = recipe(text)
    language = make_task(plan.data, plan.run)
    pairs = Reversing(spec.Reversal(), spec.Run(batch=4))
    capped = replace(plan.model, head=replace(plan.model.head, cap=30.0))
    for task, model in ((language, plan.model), (language, capped), (pairs, PAIR)):
        yield build(task.fitted(model)), task.parts(0)[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nothing_of_a_step_stays_on_the_processor(dtype, text):
    for model, batch in cases(text):
        working = Working(model.to(META), dtype)
        assert working.device == META
        loss = next_token_loss(working.model, batch, batch.scored)
        loss.backward()
        working.collect()
        working.refresh()
        assert loss.device == META and token_losses(working.model.eval(), batch).device == META
        assert {p.grad.device for p in working.master.parameters() if p.grad is not None} == {META}
        assert working.clip(None).device == META


def test_a_batch_that_stayed_behind_would_be_seen(text, monkeypatch):
    monkeypatch.setattr(Batch, "to", lambda self, device: self)
    for model, batch in cases(text):
        with pytest.raises(RuntimeError, match="device"):
            next_token_loss(model.to(META), batch, batch.scored)


def test_what_a_pair_writes_comes_back(monkeypatch):
    """Its judging, at every token: the model there, the answer here."""
    task = Reversing(spec.Reversal(), spec.Run(batch=4))
    back = []
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: back.append(self.device) or self)
    task.write(build(task.fitted(PAIR)).to(META).eval(), task.made.unseen_strings(0, 4))
    assert back == [META]


def test_blocks_are_timed_with_the_device_awaited(monkeypatch):
    awaited = []
    monkeypatch.setattr(chooser, "synchronise", awaited.append)
    for model in (build(quick(layers=1, width=16, heads=2)), build(PAIR).decoder):
        awaited.clear()
        chooser.block_seconds(model.blocks[0], 2, 8, torch.bfloat16, "meta", repeats=1)
        assert awaited == ["meta"] * 4, "before and after each of two passes"
