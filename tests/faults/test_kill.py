"""Training killed, doubled, and short of room: nothing is lost and every run ends as the undisturbed one.

reliability T1 (a small share: `python -m tests.faults.kill` does more), T3, T7, T11.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cutaway import store
from cutaway.errors import CutawayError, SaveError
from cutaway.store import disk
from cutaway.train import checkpoint
from cutaway.train.optim import Optimizers
from cutaway.train.runner import Runner
from cutaway.weights.run import list_checkpoints
from tests.faults import kill
from tests.unit.train.tiny import OPTIMIZERS, TEXT, Stop, recipe, remains

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="forks, signals and limits of Linux"
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kill")
    (folder / "text.txt").write_text(TEXT)
    return folder


@pytest.fixture(autouse=True)
def own_cache(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUTAWAY_HOME", str(place / "cache"))


def plan(place: Path, precision="fp32", optimizer="adamw", **run):
    values = {"steps": 30, "save": 2, "evaluate": 9} | run
    return recipe(place / "text.txt", precision=precision, optimizer=OPTIMIZERS[optimizer], **values)


@pytest.fixture(scope="module")
def whole(place: Path):
    """What undisturbed runs leave; the first also warms this process up for forking."""
    made: dict[str, tuple[dict, kill.Pace]] = {}

    def run(**values):
        key = repr(values)
        if key not in made:
            begin, out = time.perf_counter(), place / f"whole-{len(made)}"
            Runner(plan(place, **values), out).train()
            made[key] = remains(out), kill.Pace(0.004, (time.perf_counter() - begin) / 3)
        return made[key]

    return run


@pytest.mark.parametrize(("precision", "optimizer"), [("fp32", "adamw"), ("bf16", "muon")])
def test_killed_at_random_moments(precision, optimizer, place, whole, tmp_path):
    left, pace = whole(precision=precision, optimizer=optimizer)
    start, draw = kill.forked(plan(place, precision, optimizer)), random.Random(7)
    landed = kill.storm(start, left, tmp_path, kills=5, saves=2, pace=pace, draw=draw)
    print(landed.told())
    assert landed.kills >= 5 and landed.in_save >= 2, landed.told()
    assert landed.after_a_step >= 2, landed.told()
    assert landed.differing == [], landed.told()


def test_going_on_without_the_optimizers_state_would_be_found(place, whole, tmp_path, monkeypatch):
    left, pace = whole(precision="fp32", optimizer="adamw")
    monkeypatch.setattr(Optimizers, "load_state_dict", lambda self, state, path: None)
    start = kill.forked(plan(place))
    landed = kill.storm(start, left, tmp_path, kills=2, saves=0, pace=pace, draw=random.Random(1))
    assert landed.differing and landed.lost


def child(work) -> int:
    """The exit code of a forked process that does something, with the codes of our errors."""
    process = os.fork()
    if process == 0:
        try:
            work()
            os._exit(0)
        except CutawayError as error:
            os._exit(error.exit_code)
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_a_second_signal_ends_at_once_and_the_last_good_checkpoint_is_intact(
    place, whole, tmp_path, monkeypatch
):
    left, _ = whole(precision="fp32", optimizer="adamw")
    out, write = tmp_path / "run", checkpoint.write_tensors

    def slow(path: Path, tensors) -> None:
        if path.parent.name.startswith(".step-000006"):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        write(path, tensors)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_tensors", slow)
        begin = time.monotonic()
        assert child(lambda: Runner(plan(place), out).train()) == -signal.SIGTERM
        assert time.monotonic() - begin < 30
    assert kill.unfinished(out)
    store.verify_folder(list_checkpoints(out)[-1])
    assert list_checkpoints(out)[-1].name == "step-000004"
    Runner(plan(place), out).train(resume=True)
    assert kill.difference(out, left) == ""


def test_of_many_at_once_one_trains_and_the_others_are_refused(place, whole, tmp_path):
    left, _ = whole(precision="fp32", optimizer="adamw")
    out = tmp_path / "run"
    ready, go = os.pipe()

    def work() -> None:
        os.read(ready, 1)
        Runner(plan(place), out, say=Slow()).train()

    class Slow(Stop):
        def step(self, done, figures) -> None:
            time.sleep(0.02)

        def __init__(self) -> None:
            super().__init__(0)

    processes = []
    for _ in range(8):
        if (process := os.fork()) == 0:
            os._exit(child(work))
        processes.append(process)
    os.write(go, b"x" * len(processes))
    codes = [os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for process in processes]
    os.close(ready)
    os.close(go)
    assert sorted(codes) == [0] + [73] * 7
    assert kill.difference(out, left) == ""


def test_a_reader_of_the_output_that_goes_away_costs_no_step(place, tmp_path):
    """As `cutaway train ... | head` does; a line is printed for every step, so that it is noticed at once."""
    code = "import sys; from cutaway.app import cli, progress; progress.LINE_SECONDS = 0.0; "
    command = [sys.executable, "-c", code + "sys.exit(cli.main(sys.argv[1:]))", "train"]
    shape = "--data.tokenizer bytes --model.layers 1 --model.width 16 --model.heads 2"
    asked = [str(place / "text.txt"), *shape.split()]
    asked += ["--steps", "30", "--batch", "2", "--length", "16", "--threads", "1", "--precision", "fp32"]
    out, whole = tmp_path / "run", tmp_path / "whole"
    with subprocess.Popen([*command, *asked, "--out", out], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert any(line.startswith(b"step 3/30 ") for line in process.stdout)
        process.stdout.close()
        assert process.wait(timeout=300) == 141
    assert 3 <= int(list_checkpoints(out)[-1].name[5:]) < 30
    assert subprocess.run([*command, *asked, "--out", whole], capture_output=True).returncode == 0
    assert subprocess.run([*command, out, "--resume"], capture_output=True).returncode == 0
    assert kill.difference(out, remains(whole)) == ""


@pytest.mark.parametrize("share", [0.001, 0.3, 0.7, 0.99])
def test_a_disk_that_fills_up_inside_a_file(share, place, whole, tmp_path):
    """Without root: no file may grow beyond a share of the largest (RLIMIT_FSIZE)."""
    left, _ = whole(precision="fp32", optimizer="adamw")
    out = tmp_path / "run"

    def first() -> None:
        Runner(plan(place), out, say=Stop(6)).train()

    assert child(first) == 128 + signal.SIGUSR1
    newest = list_checkpoints(out)[-1]
    most = max(path.stat().st_size for path in newest.iterdir())
    before = (out / "metrics.jsonl").read_bytes()

    def full() -> None:
        disk.RETRY_SECONDS = (0.0, 0.0, 0.0)
        limit = max(int(share * most), len(before) + 3000)  # the metrics of two more steps have room
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        Runner(plan(place), out).train(resume=True)

    assert child(full) == SaveError.exit_code == 74
    assert list_checkpoints(out)[-1] == newest and not kill.unfinished(out)
    store.verify_folder(newest)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    assert (out / "metrics.jsonl").read_bytes().startswith(before)
    assert all(json.loads(line)["step"] for line in lines)
    Runner(plan(place), out).train(resume=True)
    assert kill.difference(out, left) == ""
