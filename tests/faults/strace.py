"""Runs a command under strace: with a fault injected at the n-th call of a kind, or to read the order of
its calls.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"


def _works() -> bool:
    """Whether strace is there and allowed to trace (some containers forbid ptrace)."""
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True).returncode == 0


needs_strace = pytest.mark.skipif(not _works(), reason="needs strace and leave to trace (apt install strace)")


@dataclass(frozen=True)
class Outcome:
    """How a traced command ended: whether the fault struck, its exit code (negative: signal), what it
    printed.
    """

    struck: bool
    code: int
    printed: str


def traced(command: list[str], options: list[str], log: Path) -> tuple[int, str]:
    """Exit code and output of a Python command under strace, whose log goes to a file."""
    run = subprocess.run(
        ["strace", "-f", "-o", str(log), *options, sys.executable, "-S", "-B", *command],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    return run.returncode, run.stdout + run.stderr


def inject(
    command: list[str], call: str, fault: str, first: int, log: Path, lasting: bool = False
) -> Outcome:
    """Runs with `fault` (signal=KILL, error=ENOSPC) at the first-th of a call, or from it on."""
    when = f"{first}+" if lasting else str(first)
    options = ["-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={when}"]
    code, printed = traced(command, options, log)
    struck = "INJECTED" in log.read_text() or "killed by SIGKILL" in log.read_text()
    return Outcome(struck, code, printed)


def calls_of(command: list[str], call: str, folder: Path, log: Path) -> tuple[int, int]:
    """The numbers of the first and the last call of a kind that has to do with a folder; (0, -1) for none."""
    code, printed = traced(command, ["-y", "-e", f"trace={call}"], log)
    assert code == 0, printed
    lines = [line for line in log.read_text().splitlines() if re.search(r"\d+\s+\w+\(", line)]
    ours = [number for number, line in enumerate(lines, start=1) if str(folder) in line]
    return (ours[0], ours[-1]) if ours else (0, -1)
