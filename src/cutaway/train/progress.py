"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

LINE_SECONDS = 10.0  # a plain line at most this often


class Reporter(Protocol):
    """Is told what happens in a run."""

    def say(self, line: str) -> None: ...

    def step(self, done: int, figures: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Says nothing: for tests and sweeps."""

    def say(self, line: str) -> None:
        """Nothing."""

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Lines:
    """One plain line every ten seconds."""

    def __init__(self, steps: int):
        self.steps, self.last, self.begin, self.first = steps, 0.0, time.monotonic(), None

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Print the figures if it is time."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.begin = done, now
        if done < self.steps and now - self.last < LINE_SECONDS:
            return
        self.last = now
        pace = (now - self.begin) / max(1, done - self.first)
        left = f"  left {pace * (self.steps - done):.0f} s" if done > self.first else ""
        print(f"step {done}/{self.steps}  {describe(figures)}{left}", flush=True)

    def close(self) -> None:
        """Nothing is left to close."""


class Bar:
    """A rich progress bar."""

    def __init__(self, steps: int):
        self.bar = Progress(
            TextColumn("[bold]{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(),
            console=Console(),
        )
        self.task: TaskID = self.bar.add_task("training", total=steps, figures="")
        self.bar.start()

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(line, markup=False, highlight=False)

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=done, figures=describe(figures))

    def close(self) -> None:
        """Leave the bar as it stands."""
        self.bar.stop()


def describe(figures: Mapping[str, float]) -> str:
    """Loss, validation, tokens/s and share of the machine's measured peak, in one line."""
    said = [f"loss {figures['loss']:.3f}"]
    if "validation" in figures:
        said.append(f"validation {figures['validation']:.3f}")
    said.append(f"{figures['tokens_per_second']:,.0f} tokens/s")
    if "share_of_peak" in figures:
        said.append(f"{figures['share_of_peak']:.0%} of peak")
    return "  ".join(said)


def reporter(steps: int) -> Reporter:
    """The one that fits where standard output goes."""
    return Bar(steps) if sys.stdout.isatty() else Lines(steps)
