"""Pairs of strings: the target is the source reversed or sorted.

B batch   L target position   M source position
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cutaway import spec
from cutaway.data import tasks
from cutaway.generate import Sampling, complete
from cutaway.generate.decode import room
from cutaway.models import AnyModel
from cutaway.models.pair import Pair
from cutaway.train.loss import Batch, next_token_loss, token_losses
from cutaway.train.task import Between, as_batch, fitted_pair, padded

JUDGED_STRINGS, JUDGED_BATCHES = 256, 4
SAMPLE_TOKENS = 32
WORD = "cutaway"  # to be reversed and sorted


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

    notices: tuple[str, ...] = ()

    @property
    def typical(self) -> tuple[int, int]:
        """Rows of a micro-batch, and the mean length of a side."""
        return self.run.batch // self.run.accumulate, (self.made.shortest + self.made.longest) // 2 + 1

    def fitted(self, model: spec.Model) -> spec.Model:
        """The spec with the task's vocabulary on both sides."""
        most = self.made.longest + 1  # the task's symbol, or the start, in front
        return fitted_pair(model, self.vocab, most, "data.longest", "Reversal")

    def parts(self, step: int) -> list[Batch]:
        """The micro-batches of a step."""
        size = self.run.batch // self.run.accumulate
        rows = (slice(i * size, (i + 1) * size) for i in range(self.run.accumulate))
        return [as_batch(self.made.batch_at(step, self.run.batch, some)) for some in rows]

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        """Cross-entropy of the next token in nats."""
        return next_token_loss(model, batch, total, self.run.smoothing)

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
        assert isinstance(model, Pair)
        found = self.glance(model, between)
        return {
            "validation": found["validation_sample"],
            "exact_strings": self._exact(model, self.made.unseen_strings, between),
            "exact_lengths": self._exact(model, self.made.unseen_lengths, between),
        }

    def _exact(self, model: Pair, draw: Callable[[int, int], tasks.Pairs], between: Between) -> float:
        right = count = 0
        for step in range(JUDGED_BATCHES):
            between()
            pairs = draw(step, JUDGED_STRINGS)
            written_BL = torch.from_numpy(pairs.target_BL)
            right += int((self.write(model, pairs) == written_BL[:, 1:]).all(1).sum())
            count += len(written_BL)
        return right / count

    def baselines(self) -> dict[str, float]:
        """Nothing that counts is held beside it."""
        return {}

    def sample(self, model: AnyModel) -> str:
        """What the model writes for one word, task by task."""
        tokens, greedy = room(model, SAMPLE_TOKENS), Sampling(temperature=0)
        words = self._words(tokens)
        written = complete(model, self.tokenizer, words, max_tokens=tokens, sampling=greedy)
        return "\n".join(f"{one} -> {text.text}" for one, text in zip(words, written, strict=True))

    def shown(self) -> tuple[str, str]:
        """A word and its reverse."""
        source = self._words(self.made.longest)[0]
        return source, source[:0:-1]

    def _words(self, most: int) -> tuple[str, ...]:
        """An example of each of the tasks, in the letters there are, of at most `most` letters."""
        letters = tasks.ALPHABET[: self.made.letters]
        word = "".join(letters[tasks.ALPHABET.index(letter) % len(letters)] for letter in WORD)
        return tuple(task + word[:most] for task in tasks.TASKS)

    @torch.no_grad()
    def write(self, model: Pair, pairs: tasks.Pairs) -> Tensor:
        """What the model writes for each source, (B, L), padded behind its end token."""
        device = model.vocab_matrix.device
        source_BM, source_padding_BM = (
            side.to(device) for side in padded(pairs.source_BM, pairs.source_lengths_B)
        )
        state = model.start(source_BM, padding_BM=source_padding_BM)
        token_B = torch.full((len(source_BM),), tasks.START_ID, device=device)
        ended_B, written = torch.zeros_like(token_B, dtype=torch.bool), []
        for _ in range(pairs.target_BL.shape[1] - 1):
            token_B = model.step(token_B[:, None], state)[:, -1].argmax(-1).masked_fill(ended_B, tasks.PAD_ID)
            ended_B |= token_B == tasks.END_ID
            written.append(token_B)
        return torch.stack(written, dim=1).cpu()
