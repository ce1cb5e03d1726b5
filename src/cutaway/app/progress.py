"""What a person sees while a run goes on: a bar on a terminal, plain lines elsewhere; NO_COLOR holds."""

import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from cutaway.train.progress import Reporter

LINE_SECONDS = 10.0  # a plain line at most this often


class Pace:
    """How long the steps that are left will take, at the pace of those since this process began."""

    def __init__(self, steps: int):
        self.steps, self.begin = steps, time.monotonic()
        self.first: int | None = None

    def seconds_left(self, done: int) -> float | None:
        """None until two steps are known: the first one's time holds what happens once only."""
        now = time.monotonic()
        if self.first is None:
            self.first, self.begin = done, now
        if done == self.first:
            return None
        return (now - self.begin) / (done - self.first) * (self.steps - done)


class Lines:
    """A plain line every ten seconds and after the last step; warnings go to standard error."""

    def __init__(self, steps: int):
        self.steps, self.pace, self.last = steps, Pace(steps), float("-inf")

    def say(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)

    def warn(self, line: str) -> None:
        """Print a line to standard error."""
        print(f"cutaway: warning: {line}", file=sys.stderr, flush=True)

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Print the figures if it is time."""
        left, now = self.pace.seconds_left(done), time.monotonic()
        if done < self.steps and now - self.last < LINE_SECONDS:
            return
        self.last = now
        print(f"step {done}/{self.steps}  {describe(figures)}{remaining(left)}", flush=True)

    def close(self) -> None:
        """Nothing is left to close."""


class Figures(ProgressColumn):
    """The figures of the last step, beside the bar."""

    def render(self, task: Task) -> Text:
        """As `describe` has them."""
        return Text(task.fields["figures"])


class Bar:
    """A bar of rich's, redrawn in place."""

    def __init__(self, steps: int, console: Console | None = None):
        self.pace = Pace(steps)
        self.bar = Progress(
            TextColumn("[bold]{task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=20),
            Figures(),
            console=console or Console(),
        )
        self.task = self.bar.add_task("training", total=steps, figures="")

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def warn(self, line: str) -> None:
        """Print a line above the bar that cannot be overlooked."""
        self.bar.console.print(
            f"warning: {line}", style="yellow", markup=False, highlight=False, soft_wrap=True
        )

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Move the bar."""
        said = describe(figures) + remaining(self.pace.seconds_left(done))
        self.bar.update(self.task, completed=done, figures=said)
        self.bar.start()  # with the first step; later it does nothing

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


def remaining(seconds: float | None) -> str:
    """The time left, to be put behind the figures."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"  {minutes}:{rest:02d} left"


def reporter(steps: int) -> Reporter:
    """The one that fits where standard output goes."""
    return Bar(steps) if sys.stdout.isatty() else Lines(steps)
