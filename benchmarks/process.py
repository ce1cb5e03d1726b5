"""The parent's end of a child process, and the rounds in which children take turns."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
OURS = Path(sys.executable)
PEERS = ROOT / ".venv-peers" / "bin" / "python"
# A side is measured as its users get it: allocator and OpenMP settings of the caller's shell stay outside.
NOT_INHERITED = ("LD_PRELOAD", "MALLOC_", "GOMP_", "KMP_", "OMP_", "GLIBC_TUNABLES", "THP_", "TORCH")


class ChildError(RuntimeError):
    """A child ended; the message holds the last lines it wrote."""


@dataclass(frozen=True)
class Plan:
    """What one child runs: a job of a module in this package, and the environment it gets."""

    name: str
    module: str
    job: str
    arguments: dict = field(default_factory=dict)
    python: Path = PEERS
    environment: dict[str, str] = field(default_factory=dict)


class Child:
    """A running child; what `measure` finds is kept in `seconds` and `values`."""

    def __init__(self, plan: Plan, threads: int):
        self.plan = plan
        self.seconds: list[float] = []
        self.values: list = []
        self.errors: IO[str] = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the child
        kept = {k: v for k, v in os.environ.items() if not k.startswith(NOT_INHERITED)}
        self.process = subprocess.Popen(
            [plan.python, "-m", "benchmarks.child", plan.module, plan.job, json.dumps(plan.arguments)],
            cwd=ROOT,
            env=kept | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"} | plan.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        try:
            self.surroundings = self.answer()
        except BaseException:
            self.close()
            raise

    def answer(self) -> dict:
        """The next line the child says. Raises ChildError where it ended instead."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            self.errors.seek(0)
            raise ChildError(f"{self.plan.name} ended with {code}:\n{self.errors.read()[-2000:]}")
        return json.loads(line)

    def call(self, count: int) -> dict[str, list]:
        """Seconds and values of `count` calls of the job."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        return self.answer()

    def measure(self, count: int) -> None:
        answer = self.call(count)
        self.seconds += answer["seconds"]
        self.values += answer["values"]

    def close(self) -> None:
        """End the child: without more input it leaves by itself, or is killed if it is busy."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def take_turns(children: list[Child], rounds: int, count: int, uncounted: int = 0) -> None:
    """A B C A B C ...: every child is measured for `count` calls in each of `rounds` rounds.

    `uncounted` calls come before these in each turn: they bring back what the system has taken from a process
    that waited, as pages of its libraries and of a mapped model.
    """
    for _ in range(rounds):
        for child in children:
            if uncounted:
                child.call(uncounted)
            child.measure(count)
