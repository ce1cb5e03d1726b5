"""Every signal we watch in every phase: nothing done is lost, the exit code tells (reliability T7)."""

import os
import signal
from pathlib import Path

import pytest

from cutaway.data import tokenizer
from cutaway.train import checkpoint
from cutaway.train.language import Language
from cutaway.train.signals import WATCHED, RunInterruptedError, Signals, StoppedError
from cutaway.weights.run import list_checkpoints
from tests.unit.train.tiny import Stop, recipe, remains, train

PHASES = ["training", "micro-step", "evaluation", "sampling", "saving", "judging"]


@pytest.fixture(autouse=True)
def nobody_ignores_signals():
    """Under nohup these tests would see no SIGHUP, behind a shell's & no SIGINT."""
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGHUP, hangup)
    signal.signal(signal.SIGINT, interrupt)


@pytest.fixture(scope="module")
def whole(text: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    return remains(train(plan(text), tmp_path_factory.mktemp("whole") / "run"))


def plan(text: Path):
    return recipe(text, steps=8, evaluate=4, sample=4, save=4)


class Once:
    """Sends a signal the first time it is asked to."""

    def __init__(self, number: int):
        self.number = number

    def __call__(self) -> None:
        if self.number:
            number, self.number = self.number, 0
            os.kill(os.getpid(), number)


def arrange(phase: str, strike: Once, monkeypatch: pytest.MonkeyPatch) -> tuple[dict, int]:
    """Let the signal come in a phase; returns options for training and the step that must be saved."""
    glance, judge, parts, write = Language.glance, Language.judge, Language.parts, checkpoint.write_tensors
    sample = Language.sample
    match phase:
        case "training":
            return {"say": Stop(3, strike.number)}, 3
        case "micro-step":
            monkeypatch.setattr(Language, "parts", lambda s, n: (n == 5 and strike(), parts(s, n))[1])
            return {}, 6
        case "evaluation":
            monkeypatch.setattr(Language, "glance", lambda s, m, b: (strike(), glance(s, m, b))[1])
            return {}, 4
        case "judging":
            monkeypatch.setattr(Language, "judge", lambda s, m, b: (strike(), judge(s, m, b))[1])
            return {}, 8
        case "saving":
            monkeypatch.setattr(checkpoint, "write_tensors", lambda p, t: (strike(), write(p, t))[1])
            return {}, 4
        case _:
            monkeypatch.setattr(Language, "sample", lambda s, m: (strike(), sample(s, m))[1])
            return {}, 4


@pytest.mark.parametrize("number", WATCHED, ids=lambda number: number.name)
@pytest.mark.parametrize("phase", PHASES)
def test_the_last_finished_step_is_saved_and_the_run_goes_on_as_if_nothing_had_been(
    phase, number, whole, text, tmp_path, monkeypatch
):
    before = {watched: signal.getsignal(watched) for watched in WATCHED}
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        options, saved = arrange(phase, Once(number), patch)
        with pytest.raises(RunInterruptedError, match=f"{number.name} after step {saved}") as stopped:
            train(plan(text), out, **options)
    assert stopped.value.exit_code == 128 + number
    assert list_checkpoints(out)[-1].name == f"step-{saved:06d}"
    assert {watched: signal.getsignal(watched) for watched in WATCHED} == before
    train(plan(text), out, resume=True)
    assert remains(out) == whole


@pytest.mark.parametrize("number", WATCHED, ids=lambda number: number.name)
def test_while_data_is_prepared_it_ends_at_once_and_the_directory_can_be_used_again(
    number, whole, text, tmp_path, monkeypatch
):
    train_tokenizer, reached = tokenizer.train_tokenizer, []

    def struck(*arguments):
        os.kill(os.getpid(), number)
        reached.append("after the signal")
        return train_tokenizer(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tokenizer, "train_tokenizer", struck)
        with pytest.raises(RunInterruptedError, match="before training began") as stopped:
            train(plan(text), tmp_path / "run")
    assert stopped.value.exit_code == 128 + number and not reached
    assert remains(train(plan(text), tmp_path / "run")) == whole


def test_a_signal_is_remembered_and_a_second_one_acts_as_it_would_have():
    with pytest.raises(KeyboardInterrupt), Signals() as signals:
        signals.hold()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(StoppedError):
            signals.check()
        os.kill(os.getpid(), signal.SIGINT)


def test_a_terminal_that_closes_and_says_so_twice_stops_the_work_once():
    with pytest.raises(StoppedError) as stopped, Signals() as signals:
        signals.hold()
        for _ in range(2):  # the second one would kill this process
            os.kill(os.getpid(), signal.SIGHUP)
        signals.check()
    assert stopped.value.number == signal.SIGHUP
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_under_nohup_a_closed_terminal_stops_nothing():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Signals() as signals:
        signals.hold()
        os.kill(os.getpid(), signal.SIGHUP)
        signals.check()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_outside_the_main_thread_signals_are_left_alone():
    import threading

    seen = []

    def work() -> None:
        with Signals() as signals:
            signals.check()
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
