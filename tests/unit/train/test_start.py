"""Fine-tuning: what is taken from the run that a recipe starts from, what is not, and what is refused."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cutaway import load, spec
from cutaway.errors import ConfigError, InputMissingError
from cutaway.models import build
from cutaway.spec.presets import bert
from cutaway.train import records
from cutaway.train.progress import Silent
from cutaway.train.runner import Runner
from cutaway.train.signals import RunInterruptedError
from cutaway.train.start import read_start
from tests.unit.train.tiny import RUN, Stop, remains, train

LINES = "".join(f"{'no' if i % 3 else 'yes'} sentence {i} of {i % 7} words\n" for i in range(200))
LEARNED = replace(RUN, steps=4)


class Listening(Silent):
    """Keeps what it is told."""

    def __init__(self):
        self.told: list[str] = []

    def say(self, line: str) -> None:
        self.told.append(line)


def masked(length: int = 16, **sizes) -> spec.Single:
    return bert(**({"layers": 1, "width": 16, "heads": 2, "length": length} | sizes))


def sorting(length: int = 16, **sizes) -> spec.Single:
    return replace(masked(length, **sizes), head=spec.Classify(2, "mean"))


def with_dropout(plan: spec.Single) -> spec.Single:
    blocks = tuple(replace(block, dropout=spec.Dropout(residual=0.2)) for block in plan.stack.blocks)
    return replace(plan, stack=replace(plan.stack, blocks=blocks), input=replace(plan.input, dropout=0.1))


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labelled")
    for name in ("train", "test"):
        (folder / f"{name}.txt").write_text(LINES)
    return folder


@pytest.fixture(scope="module")
def learned(lines: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned to tell hidden tokens of the same sentences."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUTAWAY_HOME", str(cache))
        source = (f"labelled:{lines / 'train.txt'}",)
        plan = spec.Recipe("masked", masked(), spec.MaskedText(source, vocab=300), LEARNED)
        return train(plan, tmp_path_factory.mktemp("learned") / "run")


def recipe(lines: Path, start: Path | str, model: spec.Single | None = None, **run) -> spec.Recipe:
    data = spec.Labelled(str(lines), "train.txt", "test.txt", vocab=300)
    return spec.Recipe("fine", model or sorting(), data, replace(LEARNED, **run), str(start))


def begun(plan: spec.Recipe, out: Path) -> tuple[torch.nn.Module, list[str]]:
    """The model as training begins, and what was said."""
    say = Listening()
    training, _ = Runner(plan, out, say=say).begin()
    return training.working.master, [line for line in say.told if "begins with" in line]


def test_all_but_the_head_is_taken_and_that_is_said(learned, lines, tmp_path):
    model, (told,) = begun(recipe(lines, learned), tmp_path / "run")
    old, own = load(learned).model.state_dict(), dict(model.named_parameters())
    fresh = build(model.plan, RUN.seed).state_dict()
    for name, parameter in own.items():
        same = torch.equal(parameter, fresh[name] if name.startswith("head.") else old[name])
        assert same, name
    assert not torch.equal(own["input.token.weight"], fresh["input.token.weight"])
    assert f"{len(own) - 2} tensors taken, new: head.out.weight, head.out.bias" in told
    assert "checkpoints/step-000004" in told and "\n" not in told


def test_the_tokenizer_is_the_starts(learned, lines, tmp_path):
    out = train(recipe(lines, learned), tmp_path / "run")
    assert load(out).tokenizer.digest == load(learned).tokenizer.digest
    alone = train(recipe(lines, ""), tmp_path / "alone")
    assert load(alone).tokenizer.digest != load(learned).tokenizer.digest


def test_a_checkpoint_may_be_the_start(learned, lines, tmp_path):
    model, _ = begun(recipe(lines, learned / "checkpoints" / "step-000004"), tmp_path / "run")
    assert torch.equal(model.input.token.weight, load(learned).model.input.token.weight)


def test_the_same_head_is_taken_too(learned, lines, tmp_path):
    source = (f"labelled:{lines / 'train.txt'}",)
    plan = spec.Recipe("more", masked(), spec.MaskedText(source, vocab=300), LEARNED, str(learned))
    model, (told,) = begun(plan, tmp_path / "run")
    assert torch.equal(model.head.transform.dense.weight, load(learned).model.head.transform.dense.weight)
    assert told.endswith("none new")


@pytest.mark.parametrize("length", [12, 16, 24])
def test_of_positions_those_that_both_have_are_taken(length, learned, lines, tmp_path):
    plan = recipe(lines, learned, with_dropout(sorting(length)), length=12)
    model, (told,) = begun(plan, tmp_path / "run")
    old, both = load(learned).model.input.position.weight, min(length, 16)
    assert torch.equal(model.input.position.weight[:both], old[:both])
    assert ("input.position.weight[16:]" in told) == (length > 16)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"layers": 2}, r"model\.stack\.layers is 1 there, 2 here"),
        ({"width": 32}, r"model\.width is 16 there, 32 here"),
        ({"heads": 4}, r"model\.stack\.blocks\[0\]\.mixer\.heads is 2 there, 4 here"),
    ],
)
def test_another_model_is_refused_with_the_first_difference(sizes, said, learned, lines, tmp_path):
    with pytest.raises(ConfigError, match=said) as refused:
        begun(recipe(lines, learned, sorting(**sizes)), tmp_path / "run")
    assert "\n" not in str(refused.value) and not (tmp_path / "run" / "recipe.toml").exists()


def test_other_eps_is_another_function(learned, lines, tmp_path):
    plan = sorting()
    other = replace(plan, input=replace(plan.input, norm=spec.LayerNorm(eps=1e-3)))
    with pytest.raises(ConfigError, match=r"model\.input\.norm\.eps"):
        begun(recipe(lines, learned, other), tmp_path / "run")


def test_a_start_that_is_missing_is_named(lines, tmp_path):
    with pytest.raises(InputMissingError, match="nowhere: no such folder"):
        begun(recipe(lines, tmp_path / "nowhere"), tmp_path / "run")
    assert read_start("") is None


def test_an_interrupted_run_needs_its_start_no_more_and_ends_the_same(learned, lines, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(learned, start)
    whole = train(recipe(lines, start, steps=6), tmp_path / "whole")
    with pytest.raises(RunInterruptedError):
        train(recipe(lines, start, steps=6), tmp_path / "run", say=Stop(3))
    shutil.rmtree(start)
    assert remains(train(recipe(lines, start, steps=6), tmp_path / "run", resume=True)) == remains(whole)
    alone = train(recipe(lines, "", steps=6), tmp_path / "alone")
    assert remains(alone)["weights"] != remains(whole)["weights"]


def test_before_its_first_checkpoint_a_run_begins_with_the_same_weights_again(learned, lines, tmp_path):
    start = tmp_path / "start"
    shutil.copytree(learned, start)
    plan = recipe(lines, start, steps=6)
    whole = train(plan, tmp_path / "whole")
    for name in ("run", "lost", "other"):
        Runner(plan, tmp_path / name).begin()  # and then the machine goes off
    assert remains(train(plan, tmp_path / "run", resume=True)) == remains(whole)
    source = (f"labelled:{lines / 'train.txt'}",)
    other = spec.Recipe("masked", masked(), spec.MaskedText(source, vocab=300), replace(LEARNED, seed=1))
    shutil.rmtree(start)
    with pytest.raises(InputMissingError, match=r"start: .*no such folder.*has no checkpoint yet"):
        train(plan, tmp_path / "lost", resume=True)
    train(other, start)
    with pytest.raises(ConfigError, match="other weights than when the run began"):
        train(plan, tmp_path / "other", resume=True)
    assert records.read_records(tmp_path / "run").recipe.start == str(start)
