"""Ctrl-C, SIGTERM and SIGUSR1: remembered when they come, acted on between two pieces of work."""

import signal
from types import FrameType, TracebackType
from typing import Any

from cutaway.errors import CutawayError

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class RunInterruptedError(CutawayError):
    """A signal ended the run; what was done is saved."""

    def __init__(self, number: int, message: str):
        self.exit_code = 128 + number
        super().__init__(message)


class StoppedError(Exception):
    """A signal has come, and now is a good moment to stop."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(number)


class Signals:
    """While entered, the first signal stops the work, a second one acts as it would have.

    Until `hold` is called the work stops at once, as there is nothing to finish; from then on where it calls
    `check`. Both raise StoppedError. Outside the main thread signals are somebody else's.
    """

    def __init__(self) -> None:
        self.caught: int | None = None
        self._held = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Signals":
        try:
            for number in WATCHED:
                self._before[number] = signal.signal(number, self._remember)
        except ValueError:  # not the main thread
            self._before.clear()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._restore()

    def hold(self) -> None:
        """From now on, signals wait for `check`."""
        self._held = True

    def check(self) -> None:
        """Raise StoppedError if a signal has come."""
        if self.caught is not None:
            raise StoppedError(self.caught)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        self._restore()
        if not self._held:
            raise StoppedError(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
