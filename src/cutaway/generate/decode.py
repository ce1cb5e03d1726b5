"""Cached decoding: a batch of rows that grow by one token each, whatever the model.

A decoder continues prompts of unequal length: padding in front (`State.start_B`) lets all end at the same
place. An encoder-decoder reads its sources once, padded behind, and writes from a token that begins every
target.

B batch   L position of new tokens   M source position   V vocabulary
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from cutaway.errors import ConfigError, ContextLengthError, LimitError
from cutaway.generate.compiled import compiled
from cutaway.generate.pack import Packed, pays
from cutaway.generate.sample import Sampler, Sampling
from cutaway.models import AnyModel, Pair, Single
from cutaway.models.decoding import check_decodes
from cutaway.nn.cache import State
from cutaway.nn.embed import Tokens
from cutaway.nn.position import Learned

CHUNK = 512  # positions a prompt is read by at a time: bounds the memory of masks and activations
RESERVED = 4096  # positions the cache has room for from the start, at most; beyond, it grows by doubling


class Decoding:
    """Rows decoded together: `advance` gives each one more token, `keep` drops those that have ended.

    `prompts` are token ids: what a decoder continues, what an encoder-decoder translates, writing from
    `begin` on. `rows` numbers them for the random numbers. Nothing is computed before the first `advance`.
    Raises ContextLengthError where prompt and `max_tokens` do not fit the model's positions, LimitError for
    an empty prompt or a token out of range, ConfigError for a model in training mode or one that cannot
    decode.
    """

    def __init__(
        self,
        model: AnyModel,
        prompts: Sequence[Sequence[int]],
        *,
        max_tokens: int,
        sampling: Sampling,
        rows: Sequence[int] | None = None,
        vocab: int | None = None,
        begin: int | None = None,
    ):
        if model.training:
            raise ConfigError(
                "the model is in training mode, where dropout is random: call model.eval() first"
            )
        self.model, self.max_tokens = model, max_tokens
        self.device = next(model.parameters()).device
        self.prompts = [[int(token) for token in prompt] for prompt in prompts]
        check_prompts(model, self.prompts, max_tokens)
        said = self.prompts if begin is None else [[begin]] * len(prompts)
        rows = range(len(prompts)) if rows is None else rows
        self.sampler = Sampler(sampling, rows, said, vocab or model.vocab_matrix.size(0))
        self.begin = begin
        fast = pays(model, len(prompts), max_tokens)
        self.speed: AbstractContextManager = Packed(model, len(prompts)) if fast else nullcontext()
        self.state: State | None = None
        self.next_BL: Tensor | None = None

    @torch.inference_mode()
    def advance(self) -> tuple[list[int], list[float]]:
        """One more token for each row, and the model's log-probability of it."""
        if self.state is None or self.next_BL is None:
            self.state, logits_BLV = self._start()
        else:
            alone = self.next_BL.size(0) == 1 and compiled(self.model.head)
            with nullcontext() if alone else self.speed:
                logits_BLV = self.model.step(self.next_BL, self.state)
        tokens_B, log_probability_B = self.sampler.choose(logits_BLV[:, -1])
        self.next_BL = tokens_B[:, None]
        return tokens_B.tolist(), log_probability_B.tolist()

    @torch.inference_mode()
    def keep(self, places: list[int]) -> None:
        """Go on with these rows of the batch only."""
        assert self.state is not None and self.next_BL is not None
        rows = torch.tensor(places, device=self.device)
        self.state.select(rows)
        self.next_BL = self.next_BL[rows]
        self.sampler.keep(places)

    def _start(self) -> tuple[State, Tensor]:
        """The state behind the prompts, or the first token of each target, and the logits there (B, 1, V)."""
        if isinstance(self.model, Pair):
            if self.begin is None:
                raise ConfigError(
                    "an encoder-decoder writes from a token that begins every target: give begin"
                )
            source_BM, real_BM = pad_behind(self.prompts, self.device)
            state = self.model.start(source_BM, padding_BM=None if bool(real_BM.all()) else real_BM)
            state.reserve(min(self.max_tokens, RESERVED))
            begin_B1 = torch.full((len(self.prompts), 1), self.begin, device=self.device)
            with self.speed:
                return state, self.model.step(begin_B1, state)
        tokens_BL, start_B = pad_in_front(self.prompts, self.device)
        state = self.model.start(start_B if bool(start_B.any()) else None)
        state.reserve(min(tokens_BL.size(1) + self.max_tokens, max(RESERVED, tokens_BL.size(1))))
        *before, last = tokens_BL.split(CHUNK, dim=1)
        for chunk in before:
            self.model.features(chunk, state=state)
        return state, self.model.read(last, state)


def check_prompts(model: AnyModel, prompts: Sequence[Sequence[int]], max_tokens: int) -> None:
    """Raises what is wrong with a request before anything is computed."""
    reader = model.source if isinstance(model, Pair) else model.input
    if not isinstance(reader, Tokens):
        raise ConfigError("this model does not read tokens: it cannot decode")
    if isinstance(model, Pair):
        model.check_decodes()
    elif isinstance(model, Single):
        check_decodes(model)
    known, most = reader.token.num_embeddings, positions(reader)
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise LimitError(f"prompt {number} is empty: give at least one token")
        if min(prompt) < 0 or max(prompt) >= known:
            wrong = next(token for token in prompt if not 0 <= token < known)
            raise LimitError(f"prompt {number}: token {wrong}, but the model knows 0 to {known - 1}")
        need = len(prompt) + (0 if isinstance(model, Pair) else max_tokens)
        if most is not None and need > most:
            raise ContextLengthError(need, most)
    if isinstance(model, Pair):
        most = positions(model.written)
        if most is not None and 1 + max_tokens > most:
            raise ContextLengthError(1 + max_tokens, most)


def positions(reader: torch.nn.Module) -> int | None:
    """How many positions an input has vectors for; None where there is no limit."""
    return min((part.length for part in reader.modules() if isinstance(part, Learned)), default=None)


def room(model: torch.nn.Module, most: int) -> int:
    """How many tokens the model has positions for behind the first, on either side, at most `most`."""
    return min(most, (positions(model) or most + 1) - 1)


def pad_in_front(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens (B, L) that all end at the same place, and how much padding is in front of each row (B,)."""
    length = max(map(len, prompts))
    tokens_BL = torch.tensor(
        [[0] * (length - len(prompt)) + list(prompt) for prompt in prompts], device=device
    )
    return tokens_BL, torch.tensor([length - len(prompt) for prompt in prompts], device=device)


def pad_behind(
    rows: Sequence[Sequence[int] | np.ndarray], device: torch.device | str = "cpu", least: int = 0
) -> tuple[Tensor, Tensor]:
    """Tokens (B, M) that all begin at the same place, `least` or more, and where a token is real (B, M)."""
    lengths_B = torch.tensor([len(row) for row in rows])
    real_BM = torch.arange(max(least, int(lengths_B.max())))[None] < lengths_B[:, None]
    tokens_BM = torch.zeros(real_BM.shape, dtype=torch.long)
    tokens_BM[real_BM] = torch.from_numpy(np.concatenate([np.asarray(row, np.int64) for row in rows]))
    return tokens_BM.to(device), real_BM.to(device)
