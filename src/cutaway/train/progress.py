"""What a run tells whoever started it; how it is shown is the caller's business (`cutaway.app.progress`)."""

import warnings
from collections.abc import Mapping
from typing import Protocol


class Reporter(Protocol):
    """Is told what happens in a run."""

    def say(self, line: str) -> None:
        """Something worth a line."""

    def warn(self, line: str) -> None:
        """Something that is not as it should be, and that the run goes on in spite of."""

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """A finished step: loss, tokens_per_second, and where known validation and share_of_peak.

        Tokens are what the model reads, padding not counted: those of a text, hidden ones among them, or of
        the sentences to be sorted; of a pair those of the target. The share is that of all its arithmetic in
        what the machine was measured to reach; metrics.jsonl counts the tokens that were scored.
        """

    def close(self) -> None:
        """Nothing more will come."""


class Silent:
    """Shows nothing; a warning is a Python warning."""

    def say(self, line: str) -> None:
        """Nothing."""

    def warn(self, line: str) -> None:
        """As Python warns."""
        warnings.warn(line, stacklevel=2)

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
