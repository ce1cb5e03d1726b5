"""Translation: pairs of sentences, the decoder taught by the target it should write.

B batch   L target position   M source position
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from cutaway import spec
from cutaway.data import bleu, parallel, tasks, tokenizer
from cutaway.data.begin import begin_token
from cutaway.data.pairing import joint_tokenizer, marked_tokenizer
from cutaway.data.spelling import join_marks
from cutaway.data.text import Document
from cutaway.errors import ConfigError
from cutaway.generate.translate import MOST_SOURCE, translate
from cutaway.models import AnyModel
from cutaway.models.pair import Pair
from cutaway.train.loss import Batch, next_token_loss, token_losses
from cutaway.train.task import Between, as_batch, fitted_pair, perplexity

GLANCE_SENTENCES = 256  # whose BLEU a mid-run look takes, greedily
SENTENCES_AT_ONCE = 256
TOKENS_AT_ONCE = 32_768  # of both sides, about
SHOWN = 3
BEAM = 5


class Translating:
    """A source sentence in, a target sentence out."""

    def __init__(self, plan: spec.Parallel, run: spec.Run, known: tokenizer.Tokenizer | None = None):
        bleu.check_installed()
        train = parallel.read_parallel(plan, plan.train)
        self.validation = parallel.read_parallel(plan, plan.validation)
        self.test = parallel.read_parallel(plan, plan.test) if plan.test else None
        if known is None:
            texts = (*train.source, *train.target)
            known = joint_tokenizer(texts, plan.vocab) if plan.tokenizer == "bpe" else marked_tokenizer(texts)
        self.tokenizer, self.plan, self.run = known, plan, run
        self.scores: dict[str, bleu.Bleu] = {}  # of the last judgement
        self.sources, self.targets = self._encode(train.source), self._encode(train.target)
        self.selection = parallel.select(train, self.sources, self.targets, run.length)
        part = run.batch // run.accumulate
        self.batches = parallel.Batches(self.sources, self.targets, part, run.seed, self.selection.rows)

    def _encode(self, sentences: Sequence[str]) -> list[np.ndarray]:
        return list(self.tokenizer.encode_documents(Document("", text) for text in sentences))

    @property
    def vocab(self) -> int:
        """How many tokens the model must know."""
        return self.tokenizer.vocab

    @property
    def digest(self) -> str:
        """Of the pairs that are trained on and judged, and of the tokenizer."""
        total = hashlib.sha256(self.tokenizer.digest.encode())
        for row in self.selection.rows:
            for ids in (self.sources[row], self.targets[row]):
                total.update(len(ids).to_bytes(8, "little") + ids.astype("<i8").tobytes())
        for part in (self.validation, *([self.test] if self.test else [])):
            total.update("\n".join((*part.source, *part.target)).encode())
        return total.hexdigest()

    @property
    def notices(self) -> tuple[str, ...]:
        """How many pairs training leaves out."""
        left = {
            "a side has no word": self.selection.empty,
            "a side is longer than run.length": self.selection.long,
        }
        return tuple(f"pairs left out, because {why}: {count:,}" for why, count in left.items() if count)

    @property
    def typical(self) -> tuple[int, int]:
        """Rows and positions of a micro-batch, from the mean length of a target."""
        length = round(sum(map(len, self.targets)) / len(self.targets)) + 1
        return max(1, self.run.batch // self.run.accumulate // length), length

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the joint vocabulary on both sides."""
        fitted = fitted_pair(model, self.vocab, self.run.length, "run.length", "Parallel")
        self._check_judged(fitted.source, fitted.target or fitted.source)
        return fitted

    def _check_judged(self, read: Any, written: Any) -> None:
        """Raises ConfigError for a pair too long to be judged: better now than at the end of training."""
        for part in (self.validation, *([self.test] if self.test else [])):
            sides = (("source", part.source, read, MOST_SOURCE), ("target", part.target, written, None))
            for side, sentences, tokens, most in sides:
                most = tokens.position.length if isinstance(tokens.position, spec.Learned) else most
                for line, ids in enumerate(self._encode(sentences), 1):
                    if most is not None and len(ids) + 1 > most:
                        raise ConfigError(
                            f"{part.name}, line {line}: the {side} has {len(ids) + 1} tokens, but at most "
                            f"{most} can be judged: cut it in two, or leave the line out of both files"
                        )

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step: as many as `run.accumulate`, each of its share of the tokens."""
        first = step * self.run.accumulate
        return [self._batch(self.batches.batch_at(first + part)) for part in range(self.run.accumulate)]

    def _batch(self, rows: np.ndarray) -> Batch:
        return as_batch(self._collate(self.sources, self.targets, rows))

    def _collate(
        self, sources: Sequence[np.ndarray], targets: Sequence[np.ndarray], rows: Sequence[int] | np.ndarray
    ) -> tasks.Pairs:
        end = self.tokenizer.end
        assert end is not None
        return parallel.collate(sources, targets, rows, 0, begin_token(self.tokenizer), end)

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """Cross-entropy of the next target token in nats, labels smoothed."""
        return next_token_loss(model, batch, total, self.run.smoothing)

    def example_ids(self, step: int) -> list[int]:
        """The line of each of a step's pairs in the files, from 0."""
        places = range(step * self.run.accumulate, (step + 1) * self.run.accumulate)
        return np.concatenate([self.batches.batch_at(place) for place in places]).tolist()

    def glance(self, model: AnyModel, between: Between) -> dict[str, float]:
        """The loss a token of the validation pairs, and the BLEU of the first of them, written greedily."""
        some = parallel.Sentences(
            self.validation.source[:GLANCE_SENTENCES], self.validation.target[:GLANCE_SENTENCES], "validation"
        )
        return {
            "validation_sample": self._nats(model, self.validation, between),
            "bleu_sample": self._score(model, some, 1, between).score,
        }

    def judge(self, model: AnyModel, between: Between) -> dict[str, float]:
        """Loss a token, without smoothing, and BLEU of the validation pairs, and of the test pairs."""
        nats = self._nats(model, self.validation, between)
        found = {"validation": nats, "perplexity": perplexity(nats)}
        scores = {"validation_bleu": self._score(model, self.validation, BEAM, between)}
        if self.test is not None:
            found["test"] = self._nats(model, self.test, between)
            scores["test_bleu_greedy"] = self._score(model, self.test, 1, between)
            scores["test_bleu"] = self._score(model, self.test, BEAM, between)
        self.scores = scores
        return found | {name: score.score for name, score in scores.items()}

    @property
    def details(self) -> dict[str, str]:
        """Of each BLEU what it is made of, and sacrebleu's signature."""
        return {name: f"{score.line()}  {score.signature}" for name, score in self.scores.items()}

    def _nats(self, model: AnyModel, pairs: parallel.Sentences, between: Between) -> float:
        sources, targets = self._encode(pairs.source), self._encode(pairs.target)
        order = sorted(range(len(sources)), key=lambda place: len(targets[place]))
        total = count = 0.0
        while order:
            between()
            longest = max(len(sources[i]) + len(targets[i]) + 2 for i in order[:SENTENCES_AT_ONCE])
            rows = order[: min(SENTENCES_AT_ONCE, max(1, TOKENS_AT_ONCE // longest))]
            order = order[len(rows) :]
            batch = as_batch(self._collate(sources, targets, rows))
            total += token_losses(model, batch).double().sum().item()
            count += batch.scored
        return total / count

    def _score(self, model: AnyModel, pairs: parallel.Sentences, beam: int, between: Between) -> bleu.Bleu:
        """BLEU of what the model writes: sacrebleu's; fairseq's of a text that came cut into tokens."""
        written = self.write(model, pairs.source, beam, between)
        if self.plan.tokenizer == "marked":
            references = [join_marks(line) for line in pairs.target]
            return bleu.score(written, references, "tokenised", self.plan.lower)
        return bleu.score(written, pairs.target, "detokenised", self.plan.lower)

    def write(
        self, model: AnyModel, sentences: Sequence[str], beam: int = BEAM, between: Between = lambda: None
    ) -> list[str]:
        """What the model writes for each sentence."""
        assert isinstance(model, Pair)
        written: list[str] = []
        for first in range(0, len(sentences), SENTENCES_AT_ONCE):
            between()
            some = sentences[first : first + SENTENCES_AT_ONCE]
            written += [found.text for found in translate(model, self.tokenizer, some, beam=beam)]
        return written

    def baselines(self) -> dict[str, float]:
        """Nothing that counts is held beside it."""
        return {}

    def sample(self, model: AnyModel) -> str:
        """The first validation sentences, translated greedily."""
        some = self.validation.source[:SHOWN]
        pairs = zip(some, self.write(model, some, 1), strict=True)
        return "\n".join(f"{source} -> {target}" for source, target in pairs)

    def shown(self) -> tuple[str, str] | None:
        """The first validation pair with words on both sides, if there is one."""
        pairs = zip(self.validation.source, self.validation.target, strict=True)
        return next(((source, target) for source, target in pairs if source.strip() and target.strip()), None)
