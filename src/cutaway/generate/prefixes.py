"""What a beam search has found so far: the prefixes of each source step by step, and the targets that ended.

Arrays of numpy on the host, (source, prefix) or (source, candidate): a step costs a few operations on all
sources at once, and texts are read out of the history only at the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from cutaway.errors import ConfigError, CutawayError, LimitError
from cutaway.generate.sample import NEVER, check_whole


@dataclass(frozen=True)
class Hypothesis:
    """One target: all tokens that were written, the end token included where it `ended`.

    `log_probability` is the model's own, their sum; `score` is that over length^penalty.
    """

    tokens: tuple[int, ...]
    score: float
    log_probability: float
    ended: bool


@dataclass(frozen=True)
class Search:
    """What is asked of a search. Raises ConfigError or LimitError for what cannot be."""

    begin: int
    end: int
    beam: int = 5
    best: int = 1
    length_penalty: float = 1.0
    vocab: int | None = None
    forbidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_whole("beam", self.beam, 1, 2**15)
        check_whole("best", self.best, 1, self.beam)
        if not isfinite(self.length_penalty) or self.length_penalty < 0:
            raise LimitError(f"length_penalty {self.length_penalty}: must be a number from 0 on")
        if self.end in self.forbidden:
            raise ConfigError(f"token {self.end} ends a target: it cannot be forbidden")


class Prefixes:
    """What the search of some sources has come to: prefixes in step, and the best that have ended."""

    def __init__(self, search: Search, limits: Sequence[int]):
        count = len(limits)
        self.search, self.limits = search, np.array(limits)
        self.here = np.arange(count)  # the sources still searched
        self.history: list[
            tuple[np.ndarray, np.ndarray]
        ] = []  # of each step: tokens, and whose they continue
        self.ended = np.zeros(count, np.int64)
        self.kept = Kept(count, search.beam)
        self.cut = Kept(count, search.beam)

    def advance(
        self, value: np.ndarray, place: np.ndarray, vocab: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take in the candidates of a step; the rows that go on, the token each is given, and their sums.

        Raises CutawayError where the sums are not numbers.
        """
        if np.isnan(value).any():
            raise CutawayError(
                f"the model's logits are not finite after {len(self.history)} tokens: its weights are "
                "damaged or diverged; take an earlier checkpoint"
            )
        step, beam, penalty = len(self.history) + 1, self.search.beam, self.search.length_penalty
        parent, token = place // vocab, place % vocab
        ends = (token == self.search.end) & np.isfinite(value)
        counts = ends[:, :beam]
        if counts.any():
            self.kept.take(
                self.here, np.where(counts, value[:, :beam], NEVER), parent[:, :beam], step, penalty
            )
            self.ended[self.here] += counts.sum(1)
        live = np.argsort(ends, axis=1, kind="stable")[:, :beam]
        parent, token, total = (np.take_along_axis(each, live, 1) for each in (parent, token, value))
        total = np.where(np.take_along_axis(ends, live, 1), NEVER, total)
        self._remember(token, parent)
        limit = self.limits[self.here]
        bound = total.max(1) / limit**penalty
        done = (self.ended[self.here] >= beam) | (self.kept.score[self.here, self.search.best - 1] >= bound)
        cut = ~done & (limit == step)
        if cut.any():
            places = np.broadcast_to(np.arange(beam), total.shape)
            self.cut.take(self.here[cut], total[cut], places[cut], step, penalty)
        on = ~(done | cut)
        width = 1 if step == 1 else beam
        rows = (np.arange(len(on))[:, None] * width + parent)[on].reshape(-1)
        self.here = self.here[on]
        return rows, token[on].reshape(-1), total[on]

    def hypotheses(self) -> list[list[Hypothesis]]:
        """The best of each source, the highest score first, what was cut off last."""
        return [self._best(source) for source in range(len(self.limits))]

    def _best(self, source: int) -> list[Hypothesis]:
        found = []
        for kept, last in ((self.kept, (self.search.end,)), (self.cut, ())):
            for place in np.flatnonzero(np.isfinite(kept.score[source])):
                score, total = float(kept.score[source, place]), float(kept.total[source, place])
                path = self._path(
                    source, int(kept.step[source, place]) - len(last), kept.parent[source, place]
                )
                found.append(Hypothesis((*path, *last), score, total, bool(last)))
        return found[: self.search.best]

    def _remember(self, token: np.ndarray, parent: np.ndarray) -> None:
        shape = (len(self.limits), self.search.beam)
        tokens, parents = np.zeros(shape, np.int32), np.zeros(shape, np.int16)
        tokens[self.here], parents[self.here] = token, parent
        self.history.append((tokens, parents))

    def _path(self, source: int, steps: int, place: int) -> list[int]:
        tokens = []
        for token, parent in reversed(self.history[:steps]):
            tokens.append(int(token[source, place]))
            place = int(parent[source, place])
        return tokens[::-1]


class Kept:
    """The best hypotheses of each source so far, in falling order of score; minus infinity where none is."""

    def __init__(self, count: int, beam: int):
        self.score, self.total = np.full((count, beam), NEVER), np.full((count, beam), NEVER)
        self.step, self.parent = np.zeros((count, beam), np.int64), np.zeros((count, beam), np.int64)

    def take(
        self, sources: np.ndarray, total: np.ndarray, parent: np.ndarray, step: int, penalty: float
    ) -> None:
        """Add hypotheses of `step` tokens that continue the prefixes `parent`."""
        new = (total / step**penalty, total, np.full_like(parent, step), parent)
        old = (self.score, self.total, self.step, self.parent)
        joined = [np.concatenate([known[sources], more], 1) for known, more in zip(old, new, strict=True)]
        order = np.argsort(-joined[0], axis=1, kind="stable")[:, : self.score.shape[1]]
        for known, both in zip(old, joined, strict=True):
            known[sources] = np.take_along_axis(both, order, 1)
