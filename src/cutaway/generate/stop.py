"""Stop strings: text ends in front of the first one, and no character of it is ever handed out.

The first stop is the one that is complete first; of several complete at the same character, the longest. So
the result does not depend on how the text was cut into pieces.
"""

from collections.abc import Sequence

from cutaway.errors import ConfigError


class StopStrings:
    """Passes text on, piece by piece, holding back only what may be the beginning of a stop.

    `found` is the stop that ended the text, None before. Raises ConfigError for an empty stop.
    """

    def __init__(self, stops: Sequence[str]):
        if isinstance(stops, str):
            raise ConfigError(f"stop {stops!r}: give a list of strings, [{stops!r}]")
        for stop in stops:
            if not isinstance(stop, str) or not stop:
                raise ConfigError(f"stop {stop!r}: must be a string of at least one character")
        self.stops = tuple(stops)
        self.found: str | None = None
        self._held = ""

    def push(self, piece: str) -> str:
        """Takes a piece of text; returns what can be handed out now."""
        if self.found is not None:
            return ""
        if not self.stops:
            return piece
        text = self._held + piece
        ends = [
            (place + len(stop), -len(stop), stop) for stop in self.stops if (place := text.find(stop)) >= 0
        ]
        if ends:
            end, _, self.found = min(ends)
            self._held = ""
            return text[: end - len(self.found)]
        keep = self._possible_beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """No more text comes: returns what was held back."""
        held, self._held = self._held, ""
        return held

    def _possible_beginning(self, text: str) -> int:
        """The length of the longest end of the text that some stop begins with."""
        most = min(len(text), max(map(len, self.stops)) - 1)
        for length in range(most, 0, -1):
            end = text[len(text) - length :]
            if any(stop.startswith(end) for stop in self.stops):
                return length
        return 0
