"""Ctrl-C, SIGTERM, SIGUSR1 and a closed terminal: remembered when they come, acted on between two pieces of
work.
"""

import signal
from types import FrameType, TracebackType
from typing import Any

from cutaway.errors import CutawayError

WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class RunInterruptedError(CutawayError):
    """A signal ended the run; what was done is saved. `remedy` says how to go on."""

    def __init__(self, number: int, told: str, remedy: str = ""):
        self.number, self.told = number, told
        self.exit_code = 128 + number
        super().__init__(f"{told}; {remedy}" if remedy else told)


class StoppedError(Exception):
    """A signal has come, and now is a good moment to stop."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(number)


class Signals:
    """While entered, the first signal stops the work, a second one acts as it would have.

    SIGHUP is the exception: a terminal that closes may send it twice, so a second one does nothing, and under
    nohup, which ignores it, it stays ignored.

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
                if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._remember)
        except ValueError:  # not the main thread
            self._before.clear()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def hold(self) -> None:
        """From now on, signals wait for `check`."""
        self._held = True

    def check(self) -> None:
        """Raise StoppedError if a signal has come."""
        if self.caught is not None:
            raise StoppedError(self.caught)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.caught = number
        for watched, handler in self._before.items():
            signal.signal(watched, signal.SIG_IGN if watched == signal.SIGHUP else handler)
        if not self._held:
            raise StoppedError(number)
