"""Conversations to answer in: next-token prediction where only what the assistant says is scored.

A conversation is a row: rendered by the chat template of the model that is fine-tuned, filled up behind (no
two share a row). Scored are the tokens of the assistant's messages, the end of its turn included.

B batch   L position
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cutaway import spec
from cutaway.data.batches import examples_at
from cutaway.data.chat import encode_chat, encode_chats
from cutaway.data.conversations import ASSISTANT, Messages, read_conversations
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.generate import Sampling
from cutaway.generate.complete import stream_after
from cutaway.generate.decode import pad_behind, room
from cutaway.models import AnyModel
from cutaway.train.loss import IGNORE, Batch, scored_token_loss
from cutaway.train.task import Between, fitted_single, perplexity

ORDER = 22  # keeps these random numbers apart from all others
GLANCE_ROWS = 64
TOKENS_AT_ONCE = 2_048
SAMPLE_TOKENS = 160
SHOWN_CHARACTERS = 600


class Row(NamedTuple):
    """A conversation: what is read (L,), and what is asked for there, IGNORE where nothing is (L,)."""

    read_L: np.ndarray
    asked_L: np.ndarray


class Conversing:
    """Conversations, as one chat template renders them."""

    def __init__(
        self, plan: spec.Conversations, run: spec.Run, known: Tokenizer | None, template: str | None
    ):
        if known is None or template is None:
            raise ConfigError(
                "data Conversations: the model that the recipe starts from came without a chat template; "
                "start from one that talks"
            )
        self.tokenizer, self.run, self.template = known, run, template
        self.messages = read_conversations(plan.source, plan.validation)
        self.train, self.cut, self.lost = self._rows(self.messages.train, "training")
        self.validation, _, _ = self._rows(self.messages.validation, "validation")

    def _rows(self, chats: Sequence[Messages], part: str) -> tuple[list[Row], int, int]:
        """The rows of some conversations, how many were cut, how many had no answer before the cut."""
        most, rows, cut = self.run.length + 1, [], 0
        for chat in encode_chats(self.tokenizer, self.template, chats, mask=True):
            assert chat.assistant is not None
            ids, written = chat.ids[:most], chat.assistant[1:most]
            cut += len(chat.ids) > most
            if written.any():
                rows.append(Row(ids[:-1], np.where(written, ids[1:], IGNORE)))
        if not rows:
            raise LimitError(
                f"run.length: {self.run.length} tokens hold no answer of any of {len(chats)} {part} "
                "conversations; take more"
            )
        return rows, cut, len(chats) - len(rows)

    @property
    def digest(self) -> str:
        """Of the messages, the template that renders them, and the tokenizer."""
        said = f"{self.messages.digest} {self.tokenizer.digest} {self.template}"
        return hashlib.sha256(said.encode("utf-8", "surrogatepass")).hexdigest()

    @property
    def notices(self) -> tuple[str, ...]:
        """How many conversations are cut, or left out."""
        count, most = len(self.messages.train), self.run.length
        told = []
        if self.cut:
            told.append(
                f"{self.cut:,} of {count:,} training conversations are cut to run.length, {most} tokens"
            )
        if self.lost:
            told.append(f"{self.lost:,} of these have no answer before the cut, and are left out")
        return tuple(told)

    @property
    def typical(self) -> tuple[int, int]:
        """Rows and positions of a micro-batch, from the mean length of a row."""
        length = sum(len(row.read_L) for row in self.train) / len(self.train)
        return self.run.batch // self.run.accumulate, self._least or max(1, round(length))

    @property
    def _least(self) -> int:
        """How long each row is made; 0, as long as the longest beside it: each length would be compiled."""
        return 0 if self.run.compile == "off" else self.run.length

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the tokenizer's vocabulary."""
        return fitted_single(model, self.tokenizer.vocab, self.run.length, "past", "Conversations")

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        numbers, size = self.example_ids(step), self.run.batch // self.run.accumulate
        return [
            as_batch([self.train[number] for number in numbers[first : first + size]], self._least)
            for first in range(0, len(numbers), size)
        ]

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """Cross-entropy of the assistant's tokens in nats."""
        return scored_token_loss(model, batch, total, self.run.smoothing)

    def example_ids(self, step: int) -> list[int]:
        """The places of a step's conversations: each once an epoch, in another order."""
        return examples_at(step, self.run.batch, len(self.train), self.run.seed, ORDER)

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The loss on validation conversations that are evenly spaced in their files."""
        count = len(self.validation)
        places = np.linspace(0, count - 1, min(count, GLANCE_ROWS)).astype(np.int64)
        return {"validation_sample": self._nats(model, [self.validation[i] for i in places], between)}

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """Nats a token of the assistant in all validation conversations, and `perplexity`."""
        nats = self._nats(model, self.validation, between)
        return {"validation": nats, "perplexity": perplexity(nats)}

    @torch.no_grad()
    def _nats(self, model: AnyModel, rows: Sequence[Row], between: Between) -> float:
        ordered = sorted(rows, key=lambda row: len(row.read_L))  # alike lengths, little padding
        nats = count = 0.0
        size = max(1, TOKENS_AT_ONCE // len(ordered[-1].read_L))
        for first in range(0, len(ordered), size):
            between()
            batch = as_batch(ordered[first : first + size])
            nats += scored_token_loss(model, batch, 1).item()
            count += batch.scored
        return nats / count

    def baselines(self) -> dict[str, float]:
        """Nothing that counts is held beside it."""
        return {}

    def sample(self, model: AnyModel) -> str:
        """The first validation conversation up to its first answer, and the model's."""
        messages = self.messages.validation[0]
        place = next(i for i, message in enumerate(messages) if message["role"] == ASSISTANT)
        ids = encode_chat(self.tokenizer, self.template, messages[:place], True).ids.tolist()
        tokens = room(model, SAMPLE_TOKENS + len(ids)) - len(ids)
        sampling = Sampling(temperature=0.8, top_p=0.95, seed=0)
        pieces = stream_after(model, self.tokenizer, ids, max_tokens=tokens, sampling=sampling)
        asked = "\n".join(f"{message['role']}: {message['content']}" for message in messages[:place])
        return f"{asked}\n{ASSISTANT}: {''.join(pieces)}".lstrip()

    def shown(self) -> str | None:
        """The beginning of the first validation conversation in which something is said, if there is one."""
        said = ("\n".join(one["content"] for one in messages) for messages in self.messages.validation)
        return next((text[:SHOWN_CHARACTERS] for text in said if text.strip()), None)


def as_batch(rows: Sequence[Row], least: int = 0) -> Batch:
    """Rows filled up behind, `least` long; what fills up is not real, and asked for nowhere."""
    tokens_BL, padding_BL = pad_behind([row.read_L for row in rows], least=least)
    targets_BL = torch.full(tokens_BL.shape, IGNORE)
    targets_BL[padding_BL] = torch.from_numpy(np.concatenate([row.asked_L for row in rows]))
    return Batch((tokens_BL,), targets_BL, (padding_BL,))
