"""A save killed, or failed, at every system call it makes; its order on the disk; full disks; races for the
lock.

reliability T2, T3, T4, T11. The default run samples the calls, `-m slow` takes every one.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cutaway import store
from cutaway.errors import FileFormatError, RunLockedError
from tests.faults.save_once import contents, fill
from tests.faults.strace import SOURCE, calls_of, inject, needs_strace, traced

SAVE = str(Path(__file__).with_name("save_once.py"))
CALLS = ("mkdir", "openat", "write", "fsync", "close", "rename", "getdents64", "pread64")
SAMPLE = [pytest.param(4, id="sample"), pytest.param(1, id="every", marks=pytest.mark.slow)]


def start_over(run: Path) -> None:
    """A run directory after its first save."""
    shutil.rmtree(run, ignore_errors=True)
    store.write_folder(run / "step-1", lambda beside: fill(beside, 1))
    store.write_file(run / "spec.json", contents(1)["state.json"])
    store.append_line(run / "metrics.jsonl", contents(1)["state.json"].hex())


def holds(folder: Path, seed: int) -> bool:
    """Whether a folder is there, verified, with exactly what that save holds."""
    try:
        store.verify_folder(folder)
    except FileFormatError:
        return False
    return all((folder / name).read_bytes() == data for name, data in contents(seed).items())


def temporaries(run: Path) -> list[str]:
    return [name for name in os.listdir(run) if ".tmp-" in name]


def damage_of(run: Path, kind: str, saved: bool) -> str:
    """What is wrong in a run directory after an interrupted second save; empty where nothing is."""
    old, new = (contents(seed)["state.json"] for seed in (1, 2))
    match kind:
        case "folder" | "naive":
            if not holds(run / "step-1", 1):
                return "the first save is lost"
            if (run / "step-2").exists() and not holds(run / "step-2", 2):
                return "the second save is there but broken"
            done = (run / "step-2").exists()
        case "file":
            found = (run / "spec.json").read_bytes()
            if found not in (old, new):
                return "neither the old nor the new file"
            done = found == new
        case "line":
            found = store.read_lines(run / "metrics.jsonl")
            if found not in ([old.hex()], [old.hex(), new.hex()]):
                return "lines are neither the old nor the old and the new"
            done = len(found) == 2
    return "reported as saved, but it is not" if saved and not done else ""


def sweep_and_check(run: Path) -> str:
    store.sweep(run)
    extra = set(os.listdir(run)) - {"step-1", "step-2", "spec.json", "metrics.jsonl"}
    return f"left behind: {extra}" if extra else ""


def storm(tmp_path: Path, kind: str, fault: str, every: int) -> tuple[int, list[str]]:
    """A save with the fault at each call that touches the run; the number of points tried and what went
    wrong.
    """
    run, log, command = tmp_path / "run", tmp_path / "log", [SAVE, kind, str(tmp_path / "run"), "2"]
    tried, wrong, place = 0, [], 0
    for call in CALLS:
        start_over(run)
        first, last = calls_of(command, call, run, log)
        for number in range(first, last + 1):
            place += 1
            if place % every:
                continue
            start_over(run)
            outcome = inject(command, call, fault, number, log)
            assert outcome.struck, f"nothing struck at {call} {number}"
            tried += 1
            problem = damage_of(run, kind, saved=outcome.code == 0)
            if fault != "signal=KILL" and temporaries(run):
                problem = problem or "a failed save left something behind"
            if fault != "signal=KILL" and kind in ("folder", "file") and outcome.code != 0:
                problem = problem or f"a single fault was not retried: {outcome.printed}"
            problem = problem or sweep_and_check(run)
            if problem:
                wrong.append(f"{call} {number}: {problem}")
    return tried, wrong


@needs_strace
@pytest.mark.parametrize("every", SAMPLE)
@pytest.mark.parametrize("fault", ["signal=KILL", "error=ENOSPC", "error=EIO"])
@pytest.mark.parametrize("kind", ["folder", "file", "line"])
def test_no_single_fault_loses_a_save(tmp_path, kind, fault, every):
    """T2, T3: whatever call it strikes, what is found afterwards is the old or the new, whole."""
    tried, wrong = storm(tmp_path, kind, fault, every)
    assert not wrong
    assert tried * every >= {"folder": 40, "file": 6, "line": 3}[kind]


@needs_strace
def test_the_storm_sees_a_careless_writer_fail(tmp_path):
    """Negative control: writing in place loses data at some of the same points."""
    _, wrong = storm(tmp_path, "naive", "signal=KILL", 2)
    assert any("the first save is lost" in problem for problem in wrong)


@needs_strace
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["mkdir", "write", "fsync", "rename"])
def test_a_lasting_fault_is_reported_in_one_line_with_exit_code_74(tmp_path, call, error):
    run, log, command = tmp_path / "run", tmp_path / "log", [SAVE, "folder", str(tmp_path / "run"), "2"]
    start_over(run)
    first, _ = calls_of(command, call, run, log)
    start_over(run)
    outcome = inject(command, call, f"error={error}", first, log, lasting=True)
    # where `write` fails for ever, so does printing
    assert outcome.struck and outcome.code == (74 if call != "write" else outcome.code) and outcome.code != 0
    if call != "write":
        (line,) = outcome.printed.splitlines()
        assert f"{run}/step-2" in line and "need 60,000 bytes" in line
        assert "No space left" in line if error == "ENOSPC" else "Input/output error" in line
    assert damage_of(run, "folder", saved=False) == "" and not temporaries(run)
    assert not (run / "step-2").exists()


def broken_order(log: str, run: Path) -> list[str]:
    """Rules of durable writing that a traced save breaks: unsynced bytes or names at a rename, a parent
    never synced.
    """
    dirty, renamed, broken = set(), {}, []
    for line in log.splitlines():
        if (call := re.search(r"\b(\w+)\(", line)) is None or "= -1" in line:
            continue
        handle = re.search(r"\(\d+<([^>]*)>", line)
        quoted = re.findall(r'"([^"]*)"', line)
        match call[1]:
            case "write" if handle and handle[1].startswith(str(run)):
                dirty.add(handle[1])
            case "mkdir" | "openat" if quoted and quoted[0].startswith(str(run)):
                if call[1] == "mkdir" or "O_CREAT" in line:
                    dirty |= {quoted[0], str(Path(quoted[0]).parent)} - {str(run)}
            case "fsync" if handle:
                dirty.discard(handle[1])
                renamed.pop(handle[1], None)
            case "rename":
                broken += [
                    f"{path} not synced at rename" for path in sorted(dirty) if path.startswith(quoted[0])
                ]
                renamed[str(Path(quoted[1]).parent)] = quoted[1]
    return broken + [f"parent of {path} not synced after rename" for path in renamed.values()]


@needs_strace
@pytest.mark.parametrize("kind", ["folder", "file", "unsynced"])
def test_bytes_reach_the_disk_before_the_name_does(tmp_path, kind):
    """T4: no unsynced file or folder at the rename, the parent synced after it; `unsynced` shows that
    this can fail.
    """
    run, log = tmp_path / "run", tmp_path / "log"
    start_over(run)
    code, printed = traced(
        [SAVE, kind, str(run), "2"], ["-y", "-e", "trace=mkdir,openat,write,fsync,rename"], log
    )
    assert code == 0, printed
    assert "rename(" in log.read_text()
    broken = broken_order(log.read_text(), run)
    assert broken == [] if kind != "unsynced" else len(broken) >= 5


def limited(size: int):
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def save(kind: str, run: Path, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-S", "-B", SAVE, kind, str(run), "2"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


@pytest.mark.parametrize("size", [0, 1, 100, 9_999, 10_001, 19_999, 20_000])
def test_a_disk_that_ends_at_any_byte(tmp_path, size):
    """T3 without root: a limit on file size cuts the write at byte `size`; at 20,000 all files fit."""
    run = tmp_path / "run"
    start_over(run)
    done = save("folder", run, preexec_fn=limited(size))
    assert done.returncode == (0 if size >= 20_000 else 74), done.stderr
    assert damage_of(run, "folder", saved=done.returncode == 0) == "" and not temporaries(run)


@pytest.mark.parametrize("spare", [0, 1, 39_999, 40_000])
def test_a_line_that_does_not_fit_is_not_half_there(tmp_path, spare):
    run = tmp_path / "run"
    start_over(run)
    done = save("line", run, preexec_fn=limited(40_001 + spare))
    assert done.returncode == 74, done.stderr
    assert damage_of(run, "line", saved=False) == "" and (run / "metrics.jsonl").stat().st_size == 40_001


HOLD = """
import sys, time
from cutaway.errors import RunLockedError
from cutaway.store import DirectoryLock
started = time.perf_counter()
try:
    with DirectoryLock(sys.argv[1]):
        print("held", flush=True)
        time.sleep(60)
except RunLockedError as problem:
    print(time.perf_counter() - started, problem)
    sys.exit(problem.exit_code)
"""


def test_of_twenty_at_once_one_gets_the_directory(tmp_path):
    """T11: nineteen refuse within a second and name the one that holds it; after kill -9 it is free again."""
    command = [sys.executable, "-S", "-B", "-c", HOLD, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    racers = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(20)
    ]
    try:
        deadline = time.monotonic() + 60
        while sum(racer.poll() is not None for racer in racers) < 19 and time.monotonic() < deadline:
            time.sleep(0.01)
        (winner,) = [racer for racer in racers if racer.poll() is None]
        losers = [racer for racer in racers if racer is not winner]
        for loser in losers:
            seconds, _, message = loser.stdout.read().partition(" ")
            assert loser.returncode == 73 and float(seconds) < 1
            assert f"process {winner.pid} on " in message
        assert json.loads((tmp_path / "lock").read_text())["pid"] == winner.pid
        winner.kill()
        winner.wait()
        with store.DirectoryLock(tmp_path), pytest.raises(RunLockedError), store.DirectoryLock(tmp_path):
            pass
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
            racer.stdout.close()
