"""What is learned: examples for a step, and the figures a model is judged by.

A task is made from the recipe's `data` record. Both kinds have the same face: `Task`.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from cutaway import spec
from cutaway.data import batches, shards, tasks, text, tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.models import AnyModel, Paired
from cutaway.train.loss import IGNORE, Batch, token_losses

GLANCE_TOKENS = 32_768  # a mid-run look at the validation loss reads this many, evenly spaced
TOKENS_AT_ONCE = 8_192
JUDGED_STRINGS, JUDGED_BATCHES = 256, 4

Between = Callable[[], None]  # looked at between pieces of work, so that a signal ends any phase


class Task(Protocol):
    """Examples to learn from and ways to judge, from one recipe's data."""

    tokenizer: tokenizer.Tokenizer

    @property
    def digest(self) -> str:
        """Names the examples: the same digest and seed give the same steps."""
        ...

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the vocabulary its data turned out to have; ConfigError for another kind, or one with
        too few positions.
        """
        ...

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
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


class Language:
    """Next-token prediction over text."""

    def __init__(self, plan: spec.Text, run: spec.Run, known: tokenizer.Tokenizer | None = None):
        documents = text.read_documents(plan.source[0] if len(plan.source) == 1 else plan.source)
        split = text.split_by_file if plan.split == "file" else text.split_tail
        cut = split(documents, plan.validation)
        if known is None:
            # characters: as nanoGPT, over the whole text, so that no validation character is unknown
            spelled = documents if plan.tokenizer == "characters" else cut.train
            known = tokenizer.train_tokenizer(plan.tokenizer, (d.text for d in spelled), plan.vocab)
        self.tokenizer, self.run = known, run
        self.train = shards.prepare_tokens(cut.train, known)
        self.validation = shards.prepare_tokens(cut.validation, known)
        self.batches = batches.Batches(self.train.tokens, run.length, run.batch, run.seed)
        if len(self.validation.tokens) < 2:
            raise LimitError("the validation part has fewer than 2 tokens: give more text or a larger share")

    @property
    def vocab(self) -> int:
        """How many tokens the model must know."""
        return self.tokenizer.vocab

    @property
    def digest(self) -> str:
        """Of both parts of the text and the tokenizer."""
        return hashlib.sha256(f"{self.train.digest} {self.validation.digest}".encode()).hexdigest()

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the tokenizer's vocabulary."""
        match model:
            case spec.Single(
                input=spec.Tokens() as read, stack=spec.Stack(sees="past"), head=spec.NextToken()
            ):  # a stack that sees all would learn to copy what it should predict
                check_positions(read, self.run.length, "run.length")
                return replace(model, input=replace(read, vocab=self.vocab))
        raise ConfigError(
            "data Text trains a Single whose stack sees the past, "
            "with an input of Tokens and a head of NextToken"
        )

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        rows = torch.from_numpy(self.batches.batch_at(step))
        size = self.run.batch // self.run.accumulate
        return [Batch((some[:, :-1],), some[:, 1:]) for some in rows.split(size)]

    def example_ids(self, step: int) -> list[int]:
        """The position of each example's first token."""
        return self.batches.example_ids(step)

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The loss on a fixed sample of the windows of `validation_head`: the tail has no say in a choice."""
        tokens = self.validation.tokens[: self._head + 1]
        windows = (len(tokens) - 1) // self.run.length
        if windows < 1:
            return {"validation_sample": self._nats(model, tokens, between).mean().item()}
        count = max(1, min(windows, GLANCE_TOKENS // self.run.length))
        starts = np.linspace(0, windows - 1, count).astype(np.int64) * self.run.length
        pieces = tokens[starts[:, None] + np.arange(self.run.length + 1)].astype(np.int64)
        rows = max(1, TOKENS_AT_ONCE // self.run.length)
        total = 0.0
        for some in torch.from_numpy(pieces).split(rows):
            between()
            total += token_losses(model, Batch((some[:, :-1],), some[:, 1:])).double().sum().item()
        return {"validation_sample": total / (count * self.run.length)}

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The loss of the whole validation text: windows of the training length, every token after the first
        once.

        `validation` in nats a token, `validation_head` and `validation_tail` the same over its first nine
        tenths and its last, `bits_per_byte`.
        """
        nats_E = self._nats(model, self.validation.tokens, between)
        tail = max(1, len(nats_E) // 10)
        return {
            "validation": nats_E.mean().item(),
            "validation_head": nats_E[: self._head].mean().item(),
            "validation_tail": nats_E[-tail:].mean().item(),
            "bits_per_byte": nats_E.sum().item() / math.log(2) / self.validation.bytes,
        }

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


class Reversing:
    """Pairs of strings: the target is the source reversed or sorted."""

    def __init__(self, plan: spec.Reversal, run: spec.Run):
        self.made = tasks.StringTask(run.seed, plan.letters, plan.shortest, plan.longest)
        self.tokenizer, self.run = self.made.tokenizer(), run

    @property
    def vocab(self) -> int:
        """How many tokens the model must know."""
        return self.made.vocab

    @property
    def digest(self) -> str:
        """The task's own description: its examples are made from it alone."""
        return repr(self.made)

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the task's vocabulary on both sides."""
        most = self.made.longest + 1  # the task's symbol, or the start, in front
        match model:
            case spec.Paired(source=spec.Tokens() as read, target=None):
                check_positions(read, most, "data.longest")
                return replace(model, source=replace(read, vocab=self.vocab))
            case spec.Paired(source=spec.Tokens() as read, target=spec.Tokens() as written):
                for side in (read, written):
                    check_positions(side, most, "data.longest")
                source, target = (replace(side, vocab=self.vocab) for side in (read, written))
                return replace(model, source=source, target=target)
        raise ConfigError("data Reversal trains a Paired with inputs of Tokens")

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        size = self.run.batch // self.run.accumulate
        rows = (slice(i * size, (i + 1) * size) for i in range(self.run.accumulate))
        return [as_batch(self.made.batch_at(step, self.run.batch, some)) for some in rows]

    def example_ids(self, step: int) -> list[int]:
        """Examples are numbered in the order they are made."""
        return list(range(step * self.run.batch, (step + 1) * self.run.batch))

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The loss a token on strings training never draws."""
        between()
        batch = as_batch(self.made.unseen_strings(0, JUDGED_STRINGS))
        return {"validation_sample": token_losses(model, batch).double().sum().item() / batch.scored}

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """Share of targets written without a fault, greedily: for unseen strings and for unseen lengths."""
        assert isinstance(model, Paired)
        found = self.glance(model, between)
        return {
            "validation": found["validation_sample"],
            "exact_strings": self._exact(model, self.made.unseen_strings, between),
            "exact_lengths": self._exact(model, self.made.unseen_lengths, between),
        }

    def _exact(self, model: Paired, draw: Callable[[int, int], tasks.Pairs], between: Between) -> float:
        right = count = 0
        for step in range(JUDGED_BATCHES):
            between()
            pairs = draw(step, JUDGED_STRINGS)
            written_BL = torch.from_numpy(pairs.target_BL)
            right += int((self.write(model, pairs) == written_BL[:, 1:]).all(1).sum())
            count += len(written_BL)
        return right / count

    @torch.no_grad()
    def write(self, model: Paired, pairs: tasks.Pairs) -> Tensor:
        """What the model writes for each source, (B, L), padded behind its end token."""
        device = model.vocab_matrix.device
        source_BM, source_padding_BM = (
            side.to(device) for side in _padded(pairs.source_BM, pairs.source_lengths_B)
        )
        state = model.start(source_BM, padding_BM=source_padding_BM)
        token_B = torch.full((len(source_BM),), tasks.START_ID, device=device)
        ended_B, written = torch.zeros_like(token_B, dtype=torch.bool), []
        for _ in range(pairs.target_BL.shape[1] - 1):
            token_B = model.step(token_B[:, None], state)[:, -1].argmax(-1).masked_fill(ended_B, tasks.PAD_ID)
            ended_B |= token_B == tasks.END_ID
            written.append(token_B)
        return torch.stack(written, dim=1).cpu()


def check_positions(read: spec.Tokens, tokens: int, key: str) -> None:
    """Raises ConfigError where an input learns fewer positions than training reads at once."""
    if isinstance(read.position, spec.Learned) and tokens > read.position.length:
        raise ConfigError(
            f"{key}: {tokens} tokens are read at once, but the model has positions for "
            f"{read.position.length}: lower it, or give the model more"
        )


def as_batch(pairs: tasks.Pairs) -> Batch:
    """Teacher forcing: the decoder reads the target without its last token and is scored on it without its
    first.
    """
    source_BM, source_padding_BM = _padded(pairs.source_BM, pairs.source_lengths_B)
    target, real = _padded(pairs.target_BL, pairs.target_lengths_B)
    answers_BL = target[:, 1:].masked_fill(~real[:, 1:], IGNORE)
    return Batch((source_BM, target[:, :-1]), answers_BL, (source_padding_BM, real[:, :-1]))


def _padded(ids_BM: np.ndarray, lengths_B: np.ndarray) -> tuple[Tensor, Tensor]:
    ids = torch.from_numpy(ids_BM)
    return ids, torch.arange(ids.size(1))[None] < torch.from_numpy(lengths_B)[:, None]


def make_task(plan: spec.Data, run: spec.Run, known: tokenizer.Tokenizer | None = None) -> Task:
    """The task of a recipe's data record; `known` is the tokenizer of a run that goes on."""
    match plan:
        case spec.Text():
            return Language(plan, run, known)
        case spec.Reversal():
            return Reversing(plan, run)
        case _:
            raise ConfigError(f"data {type(plan).__name__}: known are Text and Reversal")
