"""Classification: a sentence in, one of a few classes out, from the first position or the mean of all (Devlin
et al. 2018, section 4.1). A row is the end token, the sentence, the end token: so sentences stand in the text
that masked language models learn from.

B batch   L position   C class
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway import spec
from cutaway.data.batches import examples_at
from cutaway.data.begin import between_borders, borders
from cutaway.data.sentences import Sentences, read_labelled
from cutaway.data.text import Document
from cutaway.data.tokenizer import Tokenizer, train_tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.generate.decode import pad_behind
from cutaway.models import AnyModel
from cutaway.nn.heads import fine
from cutaway.train.bag_of_words import bag_of_words
from cutaway.train.loss import Batch, class_loss, logits_of
from cutaway.train.task import Between, check_positions

LABELS = "labels"  # in facts.json
ORDER = 21  # keeps these random numbers apart from all others
GLANCE_SENTENCES = 1_024
SENTENCES_AT_ONCE = 128
SAMPLED = 3


class Classifying:
    """Sentences to be sorted into classes."""

    def __init__(self, plan: spec.Labelled, run: spec.Run, known: Tokenizer | None = None):
        found = read_labelled(plan)
        self.train, self.validation, self.test = found.train, found.validation, found.test
        self.labels, self.copies, self.run = found.classes, found.copies, run
        spelled = found.train.texts
        if plan.tokenizer == "characters":  # as `Language` does
            spelled += (*found.validation.texts, *found.test.texts)
        self.tokenizer = known or train_tokenizer(plan.tokenizer, spelled, plan.vocab)
        self.rows = encode_rows(self.tokenizer, self.train.texts, run.length)
        for part in (self.validation, self.test):  # so that what cannot be read is told before training
            encode_rows(self.tokenizer, part.texts, run.length)

    @property
    def digest(self) -> str:
        """Of the sentences of all parts, their labels, and the tokenizer."""
        total = hashlib.sha256(self.tokenizer.digest.encode())
        for part in (self.train, self.validation, self.test):
            for label, text in zip(part.labels, part.texts, strict=True):
                total.update(f"{label}\0{text}\n".encode())
            total.update(b"\n")
        return total.hexdigest()

    @property
    def notices(self) -> tuple[str, ...]:
        """How many training sentences are cut, and how many were dealt with an equal one."""
        most, told = self.run.length, []
        if cut := sum(len(row) > most for row in encode_rows(self.tokenizer, self.train.texts)):
            told.append(
                f"{cut:,} of {len(self.rows):,} training sentences are cut to run.length, {most} tokens"
            )
        if self.copies:
            told.append(f"{self.copies:,} sentences of the file have an equal one: it is in the same fold")
        return tuple(told)

    @property
    def typical(self) -> tuple[int, int]:
        """Rows and positions of a micro-batch, from the mean length of a row."""
        length = sum(map(len, self.rows)) / len(self.rows)
        return self.run.batch // self.run.accumulate, max(1, round(length))

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the tokenizer's vocabulary and as many classes as there are labels."""
        match model:
            case spec.Single(input=spec.Tokens() as read, head=spec.Classify() as head):
                check_positions(read, self.run.length, "run.length")
                read = replace(read, vocab=self.tokenizer.vocab)
                return replace(model, input=read, head=replace(head, classes=len(self.labels)))
        raise ConfigError("data Labelled trains a Single with an input of Tokens and a head of Classify")

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step, the shortest rows first, so that little of them is padding."""
        numbers, size = self.example_ids(step), self.run.batch // self.run.accumulate
        numbers.sort(key=lambda place: len(self.rows[place]))
        return [
            self._batch(self.train, self.rows, numbers[first : first + size])
            for first in range(0, len(numbers), size)
        ]

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """Cross-entropy of the classes in nats, labels smoothed."""
        return class_loss(model, batch, total, self.run.smoothing)

    def example_ids(self, step: int) -> list[int]:
        """The places of a step's sentences among those of training: each once an epoch, in another order."""
        return examples_at(step, self.run.batch, len(self.rows), self.run.seed, ORDER)

    def _batch(self, part: Sentences, rows: Sequence[np.ndarray], numbers: Sequence[int]) -> Batch:
        most = self.run.length if self.run.compile == "on" else 0  # or each length would be compiled
        tokens_BL, padding_BL = pad_behind([rows[i] for i in numbers], least=most)
        targets_B = torch.tensor([self.labels.index(part.labels[i]) for i in numbers])
        return Batch((tokens_BL,), targets_B, (padding_BL,))

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """Loss and accuracy on validation sentences that are evenly spaced in their file."""
        count = len(self.validation.texts)
        places = np.linspace(0, count - 1, min(count, GLANCE_SENTENCES)).astype(np.int64)
        nats, right = self._judged(model, self.validation.part(places.tolist()), between)
        return {"validation_sample": nats, "accuracy_sample": right}

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """Loss in nats a sentence, without smoothing, and accuracy; the test sentences have no say before."""
        nats, right = self._judged(model, self.validation, between)
        test_nats, test_right = self._judged(model, self.test, between)
        return {"validation": nats, "accuracy": right, "test": test_nats, "test_accuracy": test_right}

    @torch.no_grad()
    def _judged(self, model: AnyModel, part: Sentences, between: Between) -> tuple[float, float]:
        rows = encode_rows(self.tokenizer, part.texts, self.run.length)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        device = next(model.parameters()).device
        nats = right = 0.0
        for first in range(0, len(order), SENTENCES_AT_ONCE):
            between()
            batch = self._batch(part, rows, order[first : first + SENTENCES_AT_ONCE])
            logits_BC = fine(logits_of(model, batch.to(device))).cpu()
            nats += F.cross_entropy(logits_BC, batch.targets, reduction="sum").item()
            right += int((logits_BC.argmax(-1) == batch.targets).sum())
        return nats / len(rows), right / len(rows)

    def baselines(self) -> dict[str, float]:
        """What a logistic regression on which words occur reaches."""
        return bag_of_words(self.train, self.validation, self.test)

    def sample(self, model: AnyModel) -> str:
        """Some validation sentences, the chances of their classes, and what they are."""
        count = len(self.validation.texts)
        some = self.validation.part(sorted({i * (count - 1) // (SAMPLED - 1) for i in range(SAMPLED)}))
        chances = class_chances(model, self.tokenizer, some.texts, self.run.length)
        said = []
        for text, label, row in zip(some.texts, some.labels, chances.tolist(), strict=True):
            told = ", ".join(f"{name} {chance:.0%}" for name, chance in zip(self.labels, row, strict=True))
            said.append(f"{text} -> {told} (is {label})")
        return "\n".join(said)

    def shown(self) -> str:
        """The first validation sentence."""
        return self.validation.texts[0]


def encode_rows(tokenizer: Tokenizer, texts: Sequence[str], length: int | None = None) -> list[np.ndarray]:
    """The ids of each sentence, int64, between the tokenizer's borders; cut to `length`.

    Raises LimitError where `length` leaves no room for a token of the sentence, or it has no word.
    """
    if length is not None and length <= sum(map(len, borders(tokenizer))):
        raise LimitError(f"run.length: {length} leaves no room for a sentence; take at least 3")
    named = (Document(f"sentence {number}", text) for number, text in enumerate(texts))
    rows = between_borders(tokenizer, tokenizer.encode_documents(named), length)
    for number, (text, row) in enumerate(zip(texts, rows, strict=True)):
        if not text.strip() or not len(row):
            raise LimitError(f"sentence {number} has no word: give a sentence")
    return rows


@torch.no_grad()
def class_chances(
    model: AnyModel, tokenizer: Tokenizer, texts: Sequence[str], length: int | None = None
) -> Tensor:
    """The probability of each class for each sentence, (B, C), on the processor."""
    rows, device = encode_rows(tokenizer, texts, length), next(model.parameters()).device
    chances: list[Tensor] = []
    for first in range(0, len(rows), SENTENCES_AT_ONCE):
        tokens_BL, padding_BL = pad_behind(rows[first : first + SENTENCES_AT_ONCE])
        logits_BC = model(tokens_BL.to(device), padding_BL=padding_BL.to(device))
        chances.append(fine(logits_BC).softmax(-1).cpu())
    return torch.cat(chances) if chances else torch.empty(0, 0)
