"""What the words of a sentence say without their order: multinomial logistic regression on which words occur.

p(class | words) = softmax(b + sum of w[word] over the sentence's different words), fitted by L-BFGS (Liu &
Nocedal 1989) with a penalty of l2 times the squares of w; of several l2, the one that is best on validation.

B sentence   C class   V word   E words of all sentences in a row
"""

import re
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.data.sentences import Sentences

WORD = re.compile(r"[\w']+|[^\w\s]+")
PENALTIES = (1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3)  # a sentence
ROUNDS = 60


def bag_of_words(train: Sentences, validation: Sentences, test: Sentences) -> dict[str, float]:
    """The share of validation and of test sentences that are sorted rightly."""
    classes = sorted(set(train.labels))
    known = {word: i for i, word in enumerate(sorted({w for t in train.texts for w in words(t)}))}
    seen, aside, unseen = (Bags(part, known, classes) for part in (train, validation, test))
    fitted = [fit(seen, len(known), len(classes), l2) for l2 in PENALTIES]
    best = max(fitted, key=lambda parameters: aside.accuracy(*parameters))
    return {
        "bag_of_words_accuracy": aside.accuracy(*best),
        "bag_of_words_test_accuracy": unseen.accuracy(*best),
    }


def words(text: str) -> set[str]:
    """The different words of a text, in lower case, and its marks."""
    return set(WORD.findall(text.lower()))


class Bags:
    """The words of each sentence as numbers; words that training never saw are left out."""

    def __init__(self, part: Sentences, known: dict[str, int], classes: Sequence[str]):
        bags = [sorted(known[word] for word in words(text) if word in known) for text in part.texts]
        self.words_E = torch.tensor([number for bag in bags for number in bag], dtype=torch.long)
        self.starts_B = torch.tensor([0, *map(len, bags)])[:-1].cumsum(0)
        self.targets_B = torch.tensor([classes.index(label) for label in part.labels])

    def logits(self, weight_VC: Tensor, bias_C: Tensor) -> Tensor:
        """(B, C)."""
        return bias_C + F.embedding_bag(self.words_E, weight_VC, self.starts_B, mode="sum")

    def accuracy(self, weight_VC: Tensor, bias_C: Tensor) -> float:
        """The share of sentences whose likeliest class is theirs."""
        right_B = self.logits(weight_VC, bias_C).argmax(-1) == self.targets_B
        return right_B.double().mean().item()


def fit(bags: Bags, vocab: int, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """The weights (V, C) and biases (C,) with the least penalised cross-entropy."""
    weight_VC = torch.zeros(vocab, classes, requires_grad=True)
    bias_C = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight_VC, bias_C], max_iter=ROUNDS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        nats = F.cross_entropy(bags.logits(weight_VC, bias_C), bags.targets_B)
        penalised = nats + l2 * weight_VC.square().sum()
        penalised.backward()
        return penalised

    optimizer.step(loss)
    return weight_VC.detach(), bias_C.detach()
