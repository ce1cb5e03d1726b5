"""Choosing the next token: what is kept of a distribution, and one draw from it.

Temperature; top-k (Fan et al. 2018); top-p, the nucleus (Holtzman et al. 2020); min-p (Nguyen et al. 2024);
repetition penalty (Keskar et al. 2019). They apply in the order penalty, temperature, top-k, top-p, min-p.

Random numbers are a function of (seed, row, count of tokens already drawn for the row) and of nothing else:
a row gets the same ones alone and in any batch, and nobody else's generator moves.

B batch   V vocabulary   E part of it: the tokenizer's ids, the most likely tokens
"""

import hashlib
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

from cutaway.errors import ConfigError, CutawayError, LimitError, nearest
from cutaway.nn.heads import fine

NUCLEUS_FIRST = (
    1024  # a nucleus is nearly always inside the most likely thousand: no need to sort the vocabulary
)
NEVER = float("-inf")


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; temperature 0 takes the most likely one, None leaves a filter out.

    Without a seed every call draws its own. Raises ConfigError for a value of the wrong type, LimitError
    for one out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.temperature != 0:
            check_number("temperature", self.temperature, 0.001, 100.0, "0 for the most likely token, or ")
        check_number("repetition_penalty", self.repetition_penalty, 0.01, 100.0)
        if self.top_k is not None:
            check_whole("top_k", self.top_k, 1, 2**31 - 1)
        if self.top_p is not None:
            check_number("top_p", self.top_p, 1e-6, 1.0)
        if self.min_p is not None:
            check_number("min_p", self.min_p, 0.0, 1.0)
        if self.seed is not None:
            check_whole("seed", self.seed, 0, 2**63 - 1)

    def seeded(self) -> Self:
        """The same with a seed, drawn from the system where there is none."""
        return self if self.seed is not None else replace(self, seed=secrets.randbits(63))


def chosen(choices: dict[str, Any]) -> Sampling:
    """The record of a caller's choices; ConfigError, with the nearest name, for one that does not exist."""
    known = [field.name for field in fields(Sampling)]
    for name in choices:
        if name not in known:
            raise ConfigError(f"{name}: unknown; {nearest(name, known)}")
    return Sampling(**choices)


class Sampler:
    """Chooses for the rows of one batch; `rows` numbers them for the random numbers, `vocab` is the
    tokenizer's.

    `prompts` are the tokens that count as said already for the repetition penalty.
    """

    def __init__(self, sampling: Sampling, rows: Sequence[int], prompts: Sequence[Sequence[int]], vocab: int):
        self.sampling, self.rows, self.vocab = sampling.seeded(), list(rows), vocab
        self.count = 0
        self.said_BV: Tensor | None = None
        if sampling.repetition_penalty != 1.0:
            self.said_BV = torch.zeros(len(prompts), vocab, dtype=torch.bool)
            for said_V, prompt in zip(self.said_BV, prompts, strict=True):
                said_V[list(prompt)] = True

    def choose(self, logits_BV: Tensor) -> tuple[Tensor, Tensor]:
        """The chosen tokens (B,) and the model's own log-probability of each (B,), before any filter.

        Raises CutawayError where the logits are not finite.
        """
        open_BE = fine(logits_BV)[:, : self.vocab]
        if self.said_BV is not None:
            self.said_BV = self.said_BV.to(open_BE.device)
            open_BE = penalise(open_BE, self.said_BV, self.sampling.repetition_penalty)
        if self.sampling.temperature == 0:
            tokens_B = open_BE.argmax(-1)
        else:
            tokens_B = draw(narrow(open_BE, self.sampling), self._uniform().to(open_BE.device))
        log_probability_B = logits_BV.gather(1, tokens_B[:, None])[:, 0] - logits_BV.logsumexp(-1)
        if not bool(log_probability_B.isfinite().all()):
            raise CutawayError(
                f"the model's logits are not finite after {self.count} new tokens: its weights are damaged "
                "or diverged; take an earlier checkpoint"
            )
        if self.said_BV is not None:
            self.said_BV.scatter_(1, tokens_B[:, None], True)
        self.count += 1
        return tokens_B, log_probability_B

    def keep(self, places: list[int]) -> None:
        """Go on with these rows of the batch only."""
        self.rows = [self.rows[place] for place in places]
        if self.said_BV is not None:
            self.said_BV = self.said_BV[places]

    def _uniform(self) -> Tensor:
        seed = self.sampling.seed
        assert seed is not None
        return torch.tensor([uniform(seed, row, self.count) for row in self.rows], dtype=torch.float64)


def uniform(seed: int, row: int, count: int) -> float:
    """A number in [0, 1) that depends on nothing but the three."""
    digest = hashlib.blake2b(f"{seed} {row} {count}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "little") >> 11) * 2.0**-53


def narrow(logits_BV: Tensor, sampling: Sampling) -> Tensor:
    """Temperature and filters: what may not be drawn becomes minus infinity."""
    logits_BV = (logits_BV - logits_BV.amax(-1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None:
        logits_BV = keep_top(logits_BV, sampling.top_k)
    if sampling.top_p is not None and sampling.top_p < 1.0:
        logits_BV = keep_nucleus(logits_BV, sampling.top_p)
    if sampling.min_p:
        logits_BV = keep_likely(logits_BV, sampling.min_p)
    return logits_BV


def penalise(logits_BV: Tensor, said_BV: Tensor, penalty: float) -> Tensor:
    """Makes said tokens less likely: positive scores divided by the penalty, negative ones multiplied."""
    less_BV = torch.where(logits_BV < 0, logits_BV * penalty, logits_BV / penalty)
    return torch.where(said_BV, less_BV, logits_BV)


def keep_top(logits_BV: Tensor, count: int) -> Tensor:
    """The `count` most likely tokens, and those as likely as the last of them."""
    if count >= logits_BV.size(-1):
        return logits_BV
    least_B1 = logits_BV.topk(count).values[:, -1:]
    return logits_BV.masked_fill(logits_BV < least_B1, NEVER)


def keep_nucleus(logits_BV: Tensor, share: float) -> Tensor:
    """The most likely tokens until they add up to `share`, and those as likely as the last of them."""
    total_B1 = logits_BV.logsumexp(-1, keepdim=True)
    for count in (min(NUCLEUS_FIRST, logits_BV.size(-1)), logits_BV.size(-1)):
        top_BE = logits_BV.topk(count).values
        probability_BE = (top_BE - total_B1).exp()
        sum_BE = probability_BE.cumsum(-1)
        if bool((sum_BE[:, -1] >= share).all()):
            break
    least_B1 = top_BE.masked_fill(sum_BE - probability_BE >= share, float("inf")).amin(-1, keepdim=True)
    return logits_BV.masked_fill(logits_BV < least_B1, NEVER)


def keep_likely(logits_BV: Tensor, share: float) -> Tensor:
    """The tokens at least `share` times as likely as the most likely one."""
    least_B1 = logits_BV.amax(-1, keepdim=True) + math.log(share)
    return logits_BV.masked_fill(logits_BV < least_B1, NEVER)


def draw(logits_BV: Tensor, uniform_B: Tensor) -> Tensor:
    """One token a row (B,): where the cumulative distribution passes the row's number in [0, 1)."""
    sum_BV = logits_BV.softmax(-1).double().cumsum(-1)
    total_B1 = sum_BV[:, -1:].contiguous()
    place_B1 = torch.searchsorted(sum_BV, uniform_B[:, None] * total_B1, right=True)
    last_B1 = torch.searchsorted(sum_BV, total_B1)  # with any probability, should rounding reach the total
    return torch.minimum(place_B1, last_B1)[:, 0].clamp(max=logits_BV.size(-1) - 1)


def check_number(name: str, value: object, least: float, most: float, also: str = "") -> None:
    """Raises ConfigError unless `value` is a number, LimitError unless it lies between the two."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{name} {value!r}: must be a number")
    if not least <= value <= most:  # so that NaN is refused
        raise LimitError(f"{name} {value}: must be {also}from {least:g} to {most:g}")


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Raises ConfigError unless `value` is a whole number, LimitError unless it lies between the two."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{name} {value!r}: must be a whole number")
    if not least <= value <= most:
        raise LimitError(f"{name} {value}: must be from {least} to {most}")
