"""What is learned: examples for a step, a loss, and the figures a model is judged by.

A task is made from the recipe's `data` record (`cutaway.train.tasks`). All have the same face: `Task`.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from cutaway import spec
from cutaway.data import tasks, tokenizer
from cutaway.errors import ConfigError
from cutaway.models import AnyModel
from cutaway.train.loss import IGNORE, Batch

MOST_NATS = 709.0  # e^710 is no float64
Between = Callable[[], None]  # looked at between pieces of work, so that a signal ends any phase


class Task(Protocol):
    """Examples to learn from and ways to judge, from one recipe's data."""

    tokenizer: tokenizer.Tokenizer

    @property
    def digest(self) -> str:
        """Names the examples: the same digest and seed give the same steps."""
        ...

    @property
    def notices(self) -> tuple[str, ...]:
        """What somebody who trains on these data should be told about them."""
        ...

    @property
    def typical(self) -> tuple[int, int]:
        """Rows and positions that a micro-batch has, about: for timing, and for counting arithmetic."""
        ...

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the vocabulary its data turned out to have; ConfigError for another kind, or one with
        too few positions.
        """
        ...

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        ...

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """What training makes smaller: a micro-batch's share of the mean over the step's `total` targets."""
        ...

    def example_ids(self, step: int) -> list[int]:
        """A name for each example of a step, for error messages."""
        ...

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """`validation_sample`: the loss on a fixed sample of the validation data, in nats a token; of a text,
        from its first nine tenths.
        """
        ...

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The figures of the whole validation data, `validation` among them."""
        ...

    def baselines(self) -> dict[str, float]:
        """What counting alone reaches on the same data: NAME_FIGURE for a figure of `judge`."""
        ...

    def sample(self, model: AnyModel) -> str:
        """What the model makes of something fixed, for people to read: the same one throughout a run."""
        ...

    def shown(self) -> str | tuple[str, str] | None:
        """What the report shows the model reading: a text, a pair, or None where no example has words."""
        ...


def check_positions(read: spec.Tokens, tokens: int, key: str) -> None:
    """Raises ConfigError where an input learns fewer positions than training reads at once."""
    if isinstance(read.position, spec.Learned) and tokens > read.position.length:
        raise ConfigError(
            f"{key}: {tokens} tokens are read at once, but the model has positions for "
            f"{read.position.length}: lower it, or give the model more"
        )


def perplexity(nats: float) -> float:
    """e^nats; infinite where that is too large for a number."""
    return math.inf if nats > MOST_NATS else math.exp(nats)


def fitted_single(
    model: spec.Model, vocab: int, tokens: int, sees: Literal["past", "all"], data: str
) -> spec.Single:
    """The spec of a stack that sees so much and scores tokens, with a vocabulary; it reads `tokens` at once.

    Raises ConfigError for another kind of model, and as `check_positions` does.
    """
    match model:
        case spec.Single(input=spec.Tokens() as read, stack=spec.Stack(sees=seen), head=spec.NextToken()) if (
            seen == sees
        ):
            check_positions(read, tokens, "run.length")
            return replace(model, input=replace(read, vocab=vocab))
    told = {"past": "the past", "all": "all"}[sees]
    raise ConfigError(
        f"data {data} trains a Single whose stack sees {told}, "
        "with an input of Tokens and a head of NextToken"
    )


def fitted_pair(model: spec.Model, vocab: int, tokens: int, key: str, data: str) -> Any:
    """The spec of an encoder-decoder with a vocabulary on both sides, each of which reads `tokens` at once.

    Raises ConfigError for another kind of model, and as `check_positions` does.
    """
    if isinstance(model, spec.Paired | spec.Seq2Seq):
        sides = {"source": model.source} | ({} if model.target is None else {"target": model.target})
        known = {name: side for name, side in sides.items() if isinstance(side, spec.Tokens)}
        if known.keys() == sides.keys():
            for side in known.values():
                check_positions(side, tokens, key)
            fitted: dict[str, Any] = {name: replace(side, vocab=vocab) for name, side in known.items()}
            return replace(model, **fitted)
    raise ConfigError(f"data {data} trains a Paired or a Seq2Seq with inputs of Tokens")


def as_batch(pairs: tasks.Pairs) -> Batch:
    """Teacher forcing: the decoder reads the target without its last token and is scored on it without its
    first.
    """
    source_BM, source_padding_BM = padded(pairs.source_BM, pairs.source_lengths_B)
    target, real = padded(pairs.target_BL, pairs.target_lengths_B)
    answers_BL = target[:, 1:].masked_fill(~real[:, 1:], IGNORE)
    return Batch((source_BM, target[:, :-1]), answers_BL, (source_padding_BM, real[:, :-1]))


def padded(ids_BM: np.ndarray, lengths_B: np.ndarray) -> tuple[Tensor, Tensor]:
    """The ids as a tensor, and where they are real (B, M)."""
    ids = torch.from_numpy(ids_BM)
    return ids, torch.arange(ids.size(1))[None] < torch.from_numpy(lengths_B)[:, None]
