"""Masked language modelling: hidden tokens of a text, told from both sides (Devlin et al. 2018; algorithm 12
of Phuong & Hutter 2022).

B batch   L position   E positions that are scored   V vocabulary
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway import spec
from cutaway.data import batches, shards, text, tokenizer
from cutaway.data.masking import Masks, mask_id, ordinary_ids, with_mask
from cutaway.data.sentences import LABELLED, sentence_documents
from cutaway.errors import LimitError
from cutaway.models import AnyModel
from cutaway.nn.heads import fine
from cutaway.train.loss import IGNORE, Batch, scored_features, scored_token_loss
from cutaway.train.task import Between, fitted_single, perplexity

GLANCE_TOKENS = 65_536  # a mid-run look reads this many, evenly spaced
TOKENS_AT_ONCE = 8_192
SHOWN_TOKENS = 64
GUESSES = 3
VALIDATION_SEED = 0  # of the masks: the same for every run and every model


class Masking:
    """Text with hidden tokens, to be told from both sides."""

    def __init__(self, plan: spec.MaskedText, run: spec.Run, known: tokenizer.Tokenizer | None = None):
        split = text.split_by_file if plan.split == "file" else text.split_tail
        documents = read_source(plan.source)
        cut = split(documents, plan.validation)
        if known is None:
            spelled = documents if plan.tokenizer == "characters" else cut.train  # as `Language` does
            known = tokenizer.train_tokenizer(plan.tokenizer, (d.text for d in spelled), plan.vocab)
        self.tokenizer, self.plan, self.run = with_mask(known), plan, run
        self.train = shards.prepare_tokens(cut.train, self.tokenizer)
        self.validation = shards.prepare_tokens(cut.validation, self.tokenizer)
        self.batches = batches.Batches(self.train.tokens, run.length - 1, run.batch, run.seed)
        if len(self.validation.tokens) < run.length:
            raise LimitError(
                f"the validation part has {len(self.validation.tokens)} tokens, fewer than run.length, "
                f"{run.length}: give more text or a larger share"
            )

    def masks(self, seed: int) -> Masks:
        """How tokens are hidden, from a seed on."""
        mask, ordinary = mask_id(self.tokenizer), ordinary_ids(self.tokenizer)
        assert mask is not None
        return Masks(self.plan.rule, self.plan.share, mask, ordinary, seed)

    @property
    def digest(self) -> str:
        """Of both parts of the text, the tokenizer, and how tokens are hidden."""
        said = f"{self.train.digest} {self.validation.digest} {self.plan.rule} {self.plan.share}"
        return hashlib.sha256(said.encode()).hexdigest()

    @property
    def notices(self) -> tuple[str, ...]:
        """None: all of the text is read."""
        return ()

    @property
    def typical(self) -> tuple[int, int]:
        """Rows and positions of a micro-batch."""
        return self.run.batch // self.run.accumulate, self.run.length

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the tokenizer's vocabulary, the mask's id included."""
        return fitted_single(model, self.tokenizer.vocab, self.run.length, "all", "MaskedText")

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        whole = self._hidden(self.batches.batch_at(step), self.masks(self.run.seed), step, 0)
        size = self.run.batch // self.run.accumulate
        pairs = zip(whole.inputs[0].split(size), whole.targets.split(size), strict=True)
        return [Batch((read,), asked) for read, asked in pairs]

    def _hidden(self, tokens: np.ndarray, masks: Masks, step: int, first: int) -> Batch:
        read, chosen = masks.hide(tokens, step, first)
        return Batch((torch.from_numpy(read),), torch.from_numpy(np.where(chosen, tokens, IGNORE)))

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """Cross-entropy of the hidden tokens in nats."""
        return scored_token_loss(model, batch, total, self.run.smoothing)

    def example_ids(self, step: int) -> list[int]:
        """The position of each example's first token."""
        return self.batches.example_ids(step)

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """Loss and accuracy on a fixed sample of the validation windows."""
        count = max(1, min(self._windows, GLANCE_TOKENS // self.run.length))
        nats, right = self._judged(model, np.linspace(0, self._windows - 1, count).astype(np.int64), between)
        return {"validation_sample": nats, "accuracy_sample": right}

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """Nats a hidden token of the validation text, `perplexity`, and the share that is told rightly.

        Windows of the training length, the last one set back to fit; hidden in each is always the same.
        """
        nats, right = self._judged(model, np.arange(self._windows), between)
        return {"validation": nats, "perplexity": perplexity(nats), "validation_accuracy": right}

    @property
    def _windows(self) -> int:
        return -(-len(self.validation.tokens) // self.run.length)

    def _window(self, number: int) -> np.ndarray:
        length = self.run.length
        start = min(number * length, len(self.validation.tokens) - length)
        return self.validation.tokens[start : start + length].astype(np.int64)

    def _validation(self, numbers: np.ndarray) -> Iterator[Batch]:
        masks = self.masks(VALIDATION_SEED)
        batch = [self._hidden(self._window(n)[None], masks, 0, int(n)) for n in numbers]
        rows = max(1, TOKENS_AT_ONCE // self.run.length)
        for first in range(0, len(batch), rows):
            some = batch[first : first + rows]
            yield Batch((torch.cat([b.inputs[0] for b in some]),), torch.cat([b.targets for b in some]))

    @torch.no_grad()
    def _judged(self, model: AnyModel, numbers: np.ndarray, between: Between) -> tuple[float, float]:
        nats = right = count = 0.0
        for batch in self._validation(numbers):
            between()
            logits_EV, targets_E = _scores(model, batch)
            nats += F.cross_entropy(logits_EV, targets_E, reduction="sum").item()
            right += int((logits_EV.argmax(-1) == targets_E).sum())
            count += len(targets_E)
        return nats / max(count, 1), right / max(count, 1)

    def baselines(self) -> dict[str, float]:
        """Nothing that counts is held beside it."""
        return {}

    @torch.no_grad()
    def sample(self, model: AnyModel) -> str:
        """The beginning of the validation text with holes, and the model's best guesses beside the truth."""
        batch = self._hidden(self._window(0)[None, :SHOWN_TOKENS], self.masks(VALIDATION_SEED), 0, 0)
        logits_EV, targets_E = _scores(model, batch)
        best = logits_EV.softmax(-1).topk(min(GUESSES, logits_EV.size(1)))
        marks = {mask_id(self.tokenizer): "[ ]", self.tokenizer.end: " / "}
        holes = "".join(marks.get(i) or self.tokenizer.decode([i]) for i in batch.inputs[0][0].tolist())
        lines = []
        for target, ids, shares in zip(
            targets_E.tolist(), best.indices.tolist(), best.values.tolist(), strict=True
        ):
            guesses = ", ".join(f"{self._name(i)} {share:.0%}" for i, share in zip(ids, shares, strict=True))
            lines.append(f"{self._name(target)}: {guesses}")
        return "\n".join([holes, *lines])

    def _name(self, token: int) -> str:
        return repr(self.tokenizer.token_name(token))

    def shown(self) -> str:
        """The beginning of the validation text."""
        return self.tokenizer.decode(self.validation.tokens[: min(SHOWN_TOKENS, self.run.length)])


def read_source(source: Sequence[str]) -> list[text.Document]:
    """The documents of a source; of those that begin with `labelled:`, each sentence without its label."""
    labelled = [name for name in source if name.startswith(LABELLED)]
    others = [name for name in source if not name.startswith(LABELLED)]
    found = sentence_documents(labelled)
    if others or not labelled:
        found += text.read_documents(others)
    return found


def _scores(model: AnyModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The logits (E, V) where a token is asked for, and those tokens (E,), on the processor."""
    x_ED, targets_E = scored_features(model, batch)
    logits_EV = fine(model.head(x_ED[None], model.vocab_matrix)[0])
    return logits_EV.cpu(), targets_E.cpu()
