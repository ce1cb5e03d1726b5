"""Next-token prediction over text.

B batch   L position   E predictions in a row
"""

import hashlib
import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cutaway import spec
from cutaway.data import batches, shards, text, tokenizer
from cutaway.data.baseline import trigram_bits, unigram_bits
from cutaway.errors import ConfigError, LimitError
from cutaway.generate import Sampling, complete
from cutaway.generate.decode import room
from cutaway.models import AnyModel
from cutaway.train.loss import Batch, next_token_loss, token_losses
from cutaway.train.task import Between, check_positions

GLANCE_TOKENS = 32_768  # a mid-run look at the validation loss reads this many, evenly spaced
GENERAL_TOKENS = 16_384  # of the other text as many, at the end
TOKENS_AT_ONCE = 8_192
SAMPLE_TOKENS = 160
SHOWN_TOKENS = 256


class Language:
    """Next-token prediction over text."""

    def __init__(self, plan: spec.Text, run: spec.Run, known: tokenizer.Tokenizer | None = None):
        documents = text.read_documents(plan.source)
        split = text.split_by_file if plan.split == "file" else text.split_tail
        cut = split(documents, plan.validation)
        if known is None:
            # characters: as nanoGPT, over the whole text, so that no validation character is unknown
            spelled = documents if plan.tokenizer == "characters" else cut.train
            known = tokenizer.train_tokenizer(plan.tokenizer, (d.text for d in spelled), plan.vocab)
        self.tokenizer, self.run = known, run
        self.train = shards.prepare_tokens(cut.train, known)
        self.validation = shards.prepare_tokens(cut.validation, known)
        general = text.read_documents(plan.general) if plan.general else []
        self.general = shards.prepare_tokens(general, known) if general else None
        self.batches = batches.Batches(self.train.tokens, run.length, run.batch, run.seed)
        if len(self.validation.tokens) < 2:
            raise LimitError("the validation part has fewer than 2 tokens: give more text or a larger share")

    @property
    def vocab(self) -> int:
        """How many tokens the model must know."""
        return self.tokenizer.vocab

    @property
    def digest(self) -> str:
        """Of both parts of the text, the tokenizer, and the other text that is judged."""
        parts = [part.digest for part in (self.train, self.validation, self.general) if part is not None]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    notices: tuple[str, ...] = ()

    @property
    def typical(self) -> tuple[int, int]:
        """Rows and positions of a micro-batch."""
        return self.run.batch // self.run.accumulate, self.run.length

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the tokenizer's vocabulary."""
        match model:
            case spec.Single(
                input=spec.Tokens() as read, stack=spec.Stack(sees="past"), head=spec.NextToken()
            ):  # a stack that sees all would learn to copy what it should predict
                check_positions(read, self.run.length, "run.length")
                return replace(model, input=replace(read, vocab=self.vocab))
            case spec.Recurrence(input=spec.Tokens() as read):
                check_positions(read, self.run.length, "run.length")
                return replace(model, input=replace(read, vocab=self.vocab))
        raise ConfigError(
            "data Text trains a Single whose stack sees the past, or a Recurrence, "
            "with an input of Tokens and a head of NextToken"
        )

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        rows = torch.from_numpy(self.batches.batch_at(step))
        size = self.run.batch // self.run.accumulate
        return [Batch((some[:, :-1],), some[:, 1:]) for some in rows.split(size)]

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """Cross-entropy of the next token in nats."""
        return next_token_loss(model, batch, total, self.run.smoothing)

    def example_ids(self, step: int) -> list[int]:
        """The position of each example's first token."""
        return self.batches.example_ids(step)

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The loss on a fixed sample of the windows of `validation_head`: the tail has no say in a choice."""
        head = self.validation.tokens[: self._head + 1]
        return {"validation_sample": self._sampled(model, head, GLANCE_TOKENS, between)}

    def _sampled(self, model: AnyModel, tokens: np.ndarray, most: int, between: Between) -> float:
        """Nats a token of windows that are evenly spaced in some tokens, and read at most so many."""
        windows = (len(tokens) - 1) // self.run.length
        if windows < 1:
            return self._nats(model, tokens, between).mean().item()
        count = max(1, min(windows, most // self.run.length))
        starts = np.linspace(0, windows - 1, count).astype(np.int64) * self.run.length
        pieces = tokens[starts[:, None] + np.arange(self.run.length + 1)].astype(np.int64)
        rows = max(1, TOKENS_AT_ONCE // self.run.length)
        total = 0.0
        for some in torch.from_numpy(pieces).split(rows):
            between()
            total += token_losses(model, Batch((some[:, :-1],), some[:, 1:])).double().sum().item()
        return total / (count * self.run.length)

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The loss of the whole validation text: windows of the training length, every token after the first
        once.

        `validation` in nats a token, `validation_head` and `validation_tail` the same over its first nine
        tenths and its last, `bits_per_byte`; `general` that of a fixed sample of the other text.
        """
        nats_E = self._nats(model, self.validation.tokens, between)
        tail = max(1, len(nats_E) // 10)
        figures = {
            "validation": nats_E.mean().item(),
            "validation_head": nats_E[: self._head].mean().item(),
            "validation_tail": nats_E[-tail:].mean().item(),
            "bits_per_byte": nats_E.sum().item() / math.log(2) / self.validation.bytes,
        }
        if self.general is not None:
            figures["general"] = self._sampled(model, self.general.tokens, GENERAL_TOKENS, between)
        return figures

    def baselines(self) -> dict[str, float]:
        """Bits a byte of a unigram and of an interpolated trigram model of the same tokens."""
        found = {}
        for name, count in {"unigram": unigram_bits, "trigram": trigram_bits}.items():
            bits = count(self.train.tokens, self.validation.tokens, self.vocab)
            found[f"{name}_bits_per_byte"] = bits / self.validation.bytes
        return found

    def sample(self, model: AnyModel) -> str:
        """A text the model writes, always with the same random numbers, so that samples of a run compare."""
        sampling = Sampling(temperature=0.8, top_p=0.95, seed=0)
        start, tokens = beginning(self.tokenizer), room(model, SAMPLE_TOKENS)
        return start + complete(model, self.tokenizer, [start], max_tokens=tokens, sampling=sampling)[0].text

    def shown(self) -> str:
        """The beginning of the validation text."""
        return self.tokenizer.decode(self.validation.tokens[: min(SHOWN_TOKENS, self.run.length)])

    @property
    def _head(self) -> int:
        """How many scored tokens come before the last tenth; of one alone, head and tail are the same."""
        scored = len(self.validation.tokens) - 1
        return max(1, scored - max(1, scored // 10))

    def _nats(self, model: AnyModel, tokens: np.ndarray, between: Between) -> Tensor:
        rows = max(1, TOKENS_AT_ONCE // self.run.length)
        losses = []
        for inputs, targets in batches.evaluation_windows(tokens, self.run.length, rows):
            between()
            losses.append(
                token_losses(model, Batch((torch.from_numpy(inputs),), torch.from_numpy(targets))).flatten()
            )
        return torch.cat(losses).double()


def beginning(known: tokenizer.Tokenizer) -> str:
    """What a sample begins with: a document's beginning, a newline, or where there is neither any token."""
    if known.end is not None:
        return ""
    try:
        known.encode("\n")
    except LimitError:
        return known.decode([0])
    return "\n"
