"""A run's directory: what is refused, what is fallen back on, and that nothing is lost on the way."""

import json
import os
import random
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from cutaway import store
from cutaway.data.loading import load_tokenizer
from cutaway.data.tokenizer import byte_tokenizer, character_tokenizer
from cutaway.errors import (
    CheckpointSaveError,
    ConfigError,
    FileFormatError,
    InputMissingError,
    LimitError,
    NonFiniteError,
    OutputExistsError,
    RunLockedError,
    SaveError,
)
from cutaway.store import disk
from cutaway.train import checkpoint, runner
from cutaway.train.language import Language
from cutaway.train.progress import Silent
from cutaway.train.runner import Runner
from cutaway.weights.run import list_checkpoints
from tests.unit.train.tiny import Stop, recipe, remains, train


class Heard(Silent):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.closed = 0

    def warn(self, line: str) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture(scope="module")
def finished(text: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that ended, with its last two checkpoints; tests work on copies."""
    return train(recipe(text, save=5), tmp_path_factory.mktemp("finished") / "run")


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run"))


def drop_last(run: Path) -> None:
    shutil.rmtree(list_checkpoints(run)[-1])


def test_a_finished_run_has_all_its_files(finished):
    names = {path.name for path in finished.iterdir()}
    assert {
        "recipe.toml",
        "spec.json",
        "tokenizer.json",
        "facts.json",
        "metrics.jsonl",
        "checkpoints",
    } <= names
    assert [path.name for path in list_checkpoints(finished)] == ["step-000010", "step-000012"]
    facts = json.loads((finished / "facts.json").read_text())
    assert {
        "seed",
        "torch",
        "python",
        "processor",
        "commit",
        "data",
        "tokenizer",
        "precision",
    } <= facts.keys()
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 13))
    assert lines[-2].keys() >= {"validation", "validation_head", "validation_tail", "bits_per_byte"}
    assert lines[-1].keys() == {"step", "sample"}


def test_a_finished_run_that_goes_on_is_as_it_was(finished, run, text):
    train(recipe(text), run, resume=True)
    assert remains(run) == remains(finished)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (("recipe.toml", "metrics.jsonl"), "holds a run already; go on with `cutaway train --resume --out "),
        (("recipe.toml", "checkpoints"), "holds a run already; go on with `cutaway train --resume --out "),
        (("metrics.jsonl",), r"what is left of a run, without recipe\.toml; choose another --out"),
        (("checkpoints",), r"what is left of a run, without recipe\.toml; choose another --out"),
        (("recipe.toml",), r"holds a recipe\.toml that no run wrote there; choose another --out"),
    ],
)
def test_a_directory_that_holds_a_run_or_its_remains_is_not_begun_anew(left, said, run, text):
    for path in run.iterdir():
        if path.name not in left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    with pytest.raises(OutputExistsError, match=said) as refused:
        train(recipe(text), run)
    assert refused.value.exit_code == 73
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.name != "lock"}
    assert {path: after[path] for path in after if path.is_file()} == {
        p: t for p, t in before.items() if p.is_file()
    }


def test_a_run_that_took_no_step_can_be_begun_anew_with_other_values(finished, text, tmp_path, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(LimitError, match="begin again with --accumulate 4"):
        patch.setattr(runner.Training, "advance", Mock(side_effect=MemoryError))
        train(recipe(text, save=5, seed=3), out)
    assert (out / "recipe.toml").exists()
    assert remains(train(recipe(text, save=5), out)) == remains(finished)


def test_a_model_with_too_few_positions_is_refused_before_anything_is_written(text, tmp_path):
    plan = replace(recipe(text), model=runner.spec.gpt2(layers=1, width=16, heads=2, length=8))
    with pytest.raises(ConfigError, match=r"run\.length: 16 tokens"):
        train(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_going_on_where_nothing_is_makes_nothing(text, tmp_path):
    with pytest.raises(InputMissingError, match="no run to go on with"):
        train(recipe(text), tmp_path / "run", resume=True)
    assert not (tmp_path / "run").exists()


def test_a_directory_in_use_is_refused(run, text):
    with (
        store.DirectoryLock(run),
        pytest.raises(RunLockedError, match=f"process {os.getpid()} on") as refused,
    ):
        train(recipe(text), run, resume=True)
    assert refused.value.exit_code == 73


@pytest.mark.parametrize("missing", [0, 1, 2, 3], ids="after {} files".format)
def test_a_beginning_cut_short_can_be_made_again(missing, finished, text, tmp_path, monkeypatch):
    """recipe.toml comes last: until it is there, the directory holds no run."""
    write, written = store.write_file, []

    def fail(target: Path, data: bytes) -> None:
        if len(written) == missing:
            raise KeyboardInterrupt
        written.append(target)
        write(target, data)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(store, "write_file", fail)
        train(recipe(text, save=5), tmp_path / "run")
    assert len(written) == missing and not (tmp_path / "run").exists()
    with pytest.raises(InputMissingError):
        train(recipe(text, save=5), tmp_path / "run", resume=True)
    assert remains(train(recipe(text, save=5), tmp_path / "run")) == remains(finished)


def test_a_run_without_a_checkpoint_yet_goes_on_from_the_start(finished, run, text):
    shutil.rmtree(run / "checkpoints")
    train(recipe(text), run, resume=True)
    assert remains(run) == remains(finished)


def damage(path: Path, how: str) -> None:
    match how:
        case "truncated":
            os.truncate(path, path.stat().st_size // 2)
        case "flipped":
            data = bytearray(path.read_bytes())
            data[random.Random(0).randrange(len(data))] ^= 4
            path.write_bytes(data)
        case "missing":
            path.unlink()
        case "empty":
            os.truncate(path, 0)


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "empty"])
@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors", "state.json", "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_written_again(name, how, finished, run, text):
    newest = run / "checkpoints" / "step-000012"
    damage(newest / name, how)
    heard = Heard()
    train(recipe(text), run, resume=True, say=heard)
    assert remains(run) == remains(finished)
    assert len(heard.lines) == 1
    assert heard.lines[0].endswith("going on from the checkpoint before it, step-000010")
    assert str(newest) in heard.lines[0] and "\n" not in heard.lines[0]
    store.verify_folder(newest)
    assert (run / "checkpoints" / "damaged-step-000012").is_dir()


def test_where_every_checkpoint_is_damaged_nothing_is_touched(run, text):
    for folder in list_checkpoints(run):
        damage(folder / "model.safetensors", "flipped")
    metrics = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(FileFormatError, match="step-000012") as refused:
        train(recipe(text), run, resume=True)
    assert refused.value.exit_code == 65
    assert (run / "metrics.jsonl").read_bytes() == metrics
    assert len(list_checkpoints(run)) == 2


@pytest.mark.parametrize("other", [byte_tokenizer(), character_tokenizer("abc")], ids=["bytes", "characters"])
def test_another_tokenizer_is_refused(other, run, text):
    if other.digest == load_tokenizer(run / "tokenizer.json").digest:
        other.inner.add_tokens(["another"])
    (run / "tokenizer.json").write_text(other.to_json())
    with pytest.raises(FileFormatError, match=r"tokenizer\.json: not the tokenizer this run") as refused:
        train(recipe(text), run, resume=True)
    assert refused.value.exit_code == 65


def test_another_text_is_refused(run, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("something else\n" * 300)
    told = (run / "recipe.toml").read_text()
    source = next(line for line in told.splitlines() if line.startswith("source"))
    (run / "recipe.toml").write_text(told.replace(source, f'source = ["{other}"]'))
    with pytest.raises(ConfigError, match="the text has changed since the run began"):
        train(recipe(other), run, resume=True, say=Heard())


def test_an_edited_recipe_is_warned_of(run, text):
    told = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(told.replace("steps = 12", "steps = 14"))
    heard = Heard()
    train(recipe(text), run, resume=True, say=heard)
    assert heard.lines == [f"{run}: recipe.toml has changed since the run began; its steps will, too"]
    assert list_checkpoints(run)[-1].name == "step-000014"


@pytest.mark.parametrize("key", ["torch", "processor"])
def test_another_machine_is_warned_of(key, run, text):
    facts = json.loads((run / "facts.json").read_text())
    (run / "facts.json").write_text(json.dumps(facts | {key: "another"}))
    heard = Heard()
    train(recipe(text), run, resume=True, say=heard)
    assert [f"{key} was another" in line for line in heard.lines] == [True]


@pytest.mark.parametrize(
    "told",
    ["", "[]", "{", '{"precision": "fp32"}', '{"precision": "fp8", "compile": "off", "threads": 1}'],
)
def test_damaged_facts_are_refused(told, run, text):
    (run / "facts.json").write_text(told)
    with pytest.raises(FileFormatError, match=r"facts\.json: "):
        train(recipe(text), run, resume=True)


@pytest.mark.parametrize("torn", [b'{"step": 11, "lo', b'{"step": 11, "lo\n', b"not json\n", b"[1]\n"])
def test_a_torn_line_of_metrics_costs_that_line_only(torn, finished, run, text):
    drop_last(run)
    metrics = run / "metrics.jsonl"
    lines = metrics.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["step"] <= 10]
    metrics.write_bytes(b"".join(kept) + torn)
    heard = Heard()
    train(recipe(text), run, resume=True, say=heard)
    assert remains(run) == remains(finished)
    assert len(heard.lines) == torn.endswith(b"\n")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "RETRY_SECONDS", (0.0, 0.0, 0.0))


def refuse(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """Let the disk be full while a checkpoint's file of that name is written."""
    write = checkpoint.write_tensors

    def full(path: Path, tensors) -> None:
        if path.name == at:
            path.write_bytes(b"half")
            raise OSError(28, "No space left on device")
        write(path, tensors)

    monkeypatch.setattr(checkpoint, "write_tensors", full)


@pytest.mark.parametrize("name", ["model.safetensors", "training.safetensors"])
def test_a_full_disk_ends_the_run_with_the_checkpoint_before_it_intact(
    name, finished, text, tmp_path, impatient, monkeypatch
):
    out, heard = tmp_path / "run", Heard()
    with pytest.raises(Exception):  # noqa: B017  whatever: the first checkpoint is written by then
        train(recipe(text, save=5), out, say=Stop(5))
    with monkeypatch.context() as patch:
        refuse(patch, name)
        with pytest.raises(
            CheckpointSaveError, match=r"^checkpoint not saved: need .* free .* path"
        ) as failed:
            train(recipe(text, save=5), out, resume=True, say=heard)
    assert failed.value.exit_code == 74 and heard.closed == 1
    assert [path.name for path in list_checkpoints(out)] == ["step-000005"]
    assert not [path.name for path in (out / "checkpoints").iterdir() if "tmp" in path.name]
    store.verify_folder(out / "checkpoints" / "step-000005")
    assert remains(train(recipe(text, save=5), out, resume=True)) == remains(finished)


def test_a_disk_that_is_nearly_full_is_noticed_before_anything_is_written(
    text, tmp_path, impatient, monkeypatch
):
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 20_000)
    with pytest.raises(SaveError):
        train(recipe(text), tmp_path / "run")
    assert not list_checkpoints(tmp_path / "run")


def test_metrics_that_cannot_be_written_end_the_run(text, tmp_path, monkeypatch):
    append = store.append_line

    def full(path: Path, line: str) -> None:
        if '"step": 7' in line:
            raise disk.not_saved(len(line), 0, path, "No space left on device")
        append(path, line)

    monkeypatch.setattr(store, "append_line", full)
    with pytest.raises(SaveError, match=r"metrics\.jsonl: not saved") as failed:
        train(recipe(text, save=5), tmp_path / "run")
    assert failed.value.exit_code == 74
    assert list_checkpoints(tmp_path / "run")[-1].name == "step-000005"


@pytest.mark.parametrize(
    ("problem", "accumulate", "remedy"),
    [
        (MemoryError(), 1, r"write accumulate = 2 into \S+/run/recipe\.toml and go on with --resume"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"),
            2,
            "write accumulate = 4",
        ),
        (MemoryError(), 4, "begin a run with a smaller --length or model"),
    ],
)
def test_out_of_memory_says_how_to_need_less(problem, accumulate, remedy, text, tmp_path, monkeypatch):
    loss = runner.Training.advance

    def short(self):
        if self.done == 6:
            raise problem
        return loss(self)

    monkeypatch.setattr(runner.Training, "advance", short)
    out = tmp_path / "run"
    with pytest.raises(LimitError, match=remedy) as failed:
        train(recipe(text, save=5, accumulate=accumulate), out)
    assert failed.value.exit_code == 64
    assert list_checkpoints(out)[-1].name == "step-000006"
    if accumulate == 1:  # what is said of a run that goes on is said of its own recipe, and works
        other = recipe(text, batch=12, accumulate=6)
        with pytest.raises(LimitError, match=remedy):
            train(other, out, resume=True)
        told = (out / "recipe.toml").read_text()
        (out / "recipe.toml").write_text(told.replace("accumulate = 1", "accumulate = 2"))
        monkeypatch.setattr(runner.Training, "advance", loss)
        train(other, out, resume=True, say=Heard())
        assert list_checkpoints(out)[-1].name == "step-000012"


class Broken(Silent):
    """Raises after one of the steps."""

    def __init__(self, step: int, problem: BaseException):
        self.at, self.problem = step, problem

    def step(self, done, figures) -> None:
        if done == self.at:
            raise self.problem


@pytest.mark.parametrize("problem", [BrokenPipeError(), OSError(5, "no terminal"), KeyboardInterrupt()])
def test_whatever_ends_a_run_its_last_step_is_saved(problem, finished, text, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(type(problem)):
        train(recipe(text, save=5), out, say=Broken(3, problem))
    assert [path.name for path in list_checkpoints(out)] == ["step-000003"]
    assert remains(train(recipe(text, save=5), out, resume=True)) == remains(finished)


def test_a_step_cut_in_two_is_not_saved(finished, text, tmp_path, monkeypatch):
    """Weights already changed, the step not yet counted: saved as the step before, it would be done twice."""
    out, step, steps = tmp_path / "run", runner.Optimizers.step, []

    def cut(self, factor: float) -> None:
        step(self, factor)
        steps.append(factor)
        if len(steps) == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(runner.Optimizers, "step", cut)
        train(recipe(text, save=5), out)
    assert list_checkpoints(out)[-1].name == "step-000005"
    assert remains(train(recipe(text, save=5), out, resume=True)) == remains(finished)


def test_a_sample_that_fails_ends_no_run(finished, text, tmp_path, monkeypatch):
    def fail(task, model) -> str:
        raise LimitError("this model has nothing to say")

    heard = Heard()
    monkeypatch.setattr(Language, "sample", fail)
    out = train(recipe(text, save=5, sample=4), tmp_path / "run", say=heard)
    found, whole = remains(out), remains(finished)
    whole["figures"] = [line for line in whole["figures"] if "sample" not in line]
    assert found == whole
    assert heard.lines == [f"step {step}: no sample: this model has nothing to say" for step in (4, 8, 12)]


def test_numbers_that_are_not_finite_are_null_in_the_metrics(text, tmp_path):
    heard, out = Heard(), tmp_path / "run"
    with pytest.raises(NonFiniteError):
        train(recipe(text, steps=40, optimizer=runner.spec.AdamW(rate=1e30)), out, say=heard)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    told = (out / "metrics.jsonl").read_text().splitlines()
    lines = [json.loads(line, parse_constant=refuse) for line in told]
    assert sum(line["loss"] is None or line["grad_norm"] is None for line in lines) == 10
    assert [line.get("skipped", False) for line in lines[-10:]] == [True] * 10


def test_other_errors_are_not_taken_for_it(text, tmp_path, monkeypatch):
    def broken(self):
        raise RuntimeError("something else")

    monkeypatch.setattr(runner.Training, "advance", broken)
    with pytest.raises(RuntimeError, match="something else"):
        train(recipe(text), tmp_path / "run")


def test_giving_up_leaves_the_last_finite_weights(text, tmp_path):
    out, heard = tmp_path / "run", Heard()
    with pytest.raises(NonFiniteError, match=r"is not finite .*: begin a new run with a lower") as failed:
        train(recipe(text, steps=40, optimizer=runner.spec.AdamW(rate=1e30)), out, say=heard)
    assert failed.value.exit_code == 70
    assert len(heard.lines) == 10 and all("not finite" in line for line in heard.lines)
    weights = checkpoint.read_tensors(list_checkpoints(out)[-1] / "model.safetensors")
    assert all(bool(weight.isfinite().all()) for weight in weights.values())


def test_state_of_another_optimizer_is_refused_and_the_weights_are_as_they_were(run, text):
    plan = recipe(text, optimizer=runner.spec.Muon())
    task = runner.make_task(plan.data, plan.run)
    model = runner.build(task.fitted(plan.model), 5)
    training = Runner(plan, run).training(model, task)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    with pytest.raises(FileFormatError, match=r"training\.safetensors: holds .*, where Muon keeps"):
        checkpoint.load_checkpoint(list_checkpoints(run)[-1], training)
    for one, other in zip(model.parameters(), before, strict=True):
        assert bool((one == other).all())


def test_a_checkpoint_of_another_model_is_refused(run, text):
    told = (run / "recipe.toml").read_text()
    (run / "recipe.toml").write_text(told.replace("layers = 2", "layers = 3"))
    with pytest.raises(FileFormatError, match=r"model\.safetensors: 10 tensors missing: blocks\.2\."):
        train(recipe(text), run, resume=True, say=Heard())


def test_the_bar_is_closed_whatever_happens(text, tmp_path, monkeypatch):
    heard = Heard()
    train(recipe(text), tmp_path / "whole", say=heard)
    assert heard.closed == 1
    for fault in (KeyboardInterrupt, ValueError):
        monkeypatch.setattr(Runner, "note", Mock(side_effect=fault))
        with pytest.raises(fault):
            train(recipe(text), tmp_path / fault.__name__, say=heard)
    assert heard.closed == 3
