"""Ctrl-C, SIGTERM and SIGUSR1: remembered when they come, acted on between two pieces of work."""

import signal
from types import FrameType, TracebackType

from cutaway.errors import CutawayError

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class RunInterruptedError(CutawayError):
    """A signal ended the run; what was done is saved."""

    def __init__(self, number: int, message: str):
        self.exit_code = 128 + number
        super().__init__(message)


class StoppedError(Exception):
    """Raised inside an evaluation that a signal cut short."""


class Signals:
    """While entered, the first signal sets `caught`; a second one acts as it would have."""

    def __init__(self) -> None:
        self.caught: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Signals":
        try:
            for number in WATCHED:
                self._before[number] = signal.signal(number, self._remember)
        except ValueError:  # not the main thread: signals are somebody else's
            self._before.clear()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def check(self) -> None:
        """Raise StoppedError if a signal has come."""
        if self.caught is not None:
            raise StoppedError

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._before.clear()
