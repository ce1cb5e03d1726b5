"""Heads: unembedding (Algorithm 7 of Phuong & Hutter 2022, without its softmax) and classification.

B batch   L position   D width   V vocabulary   C class   E width before the vocabulary
"""

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.nn.feedforward import ACTIVATIONS
from cutaway.nn.linear import Linear, linear
from cutaway.nn.part import computes, part
from cutaway.tap import Tap, off


def fine(logits: Tensor) -> Tensor:
    """Logits in fp32, or as they are in fp64: probabilities and losses are made of these."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


class Transform(nn.Module):
    """BERT's dense, activation, norm."""

    def __init__(self, plan: spec.Transform, width: int):
        super().__init__()
        self.act = ACTIVATIONS[plan.act]
        self.dense = Linear(width, plan.width or width)
        self.norm = part(plan.norm, plan.width or width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, E)."""
        return self.norm(self.act(self.dense(x_BLD)))


@computes(spec.NextToken)
class NextToken(nn.Module):
    """Scores over the vocabulary, with the token embedding's matrix where tied.

    The vocabulary's size and, where tied, its matrix come from the input: see `connect`.
    """

    def __init__(self, plan: spec.NextToken, width: int):
        super().__init__()
        self.plan, self.width = plan, width
        self.transform = Transform(plan.transform, width) if plan.transform else None
        self.out: nn.Linear | None = None
        self.bias: nn.Parameter | None = None

    def connect(self, vocab: int) -> None:
        """Make what depends on the vocabulary's size."""
        narrow = self.plan.transform.width or self.width if self.plan.transform else self.width
        if not self.plan.tied:
            self.out = Linear(narrow, vocab, bias=False)
        if self.plan.bias:
            self.bias = nn.Parameter(torch.zeros(vocab))

    def features(self, x_BLD: Tensor) -> Tensor:
        """What is multiplied with the vocabulary's matrix, (B, L, E)."""
        x_BLE = x_BLD if self.transform is None else self.transform(x_BLD)
        return x_BLE if self.plan.scale == 1.0 else x_BLE * self.plan.scale

    def matrix(self, embedding_VE: Tensor) -> Tensor:
        """The vocabulary's matrix (V, E): its own, or the token embedding it is tied to."""
        return embedding_VE if self.out is None else self.out.weight

    def forward(self, x_BLD: Tensor, embedding_VE: Tensor, tap: Tap = off) -> Tensor:
        """(B, L, D) -> logits (B, L, V)."""
        logits_BLV = linear(self.features(x_BLD), self.matrix(embedding_VE), self.bias)
        if self.plan.cap is not None:
            logits_BLV = (logits_BLV / self.plan.cap).tanh() * self.plan.cap
        return logits_BLV


@computes(spec.Pooler)
class Pooler(nn.Module):
    """BERT's dense and activation, of one vector a row."""

    def __init__(self, plan: spec.Pooler, width: int):
        super().__init__()
        self.act = ACTIVATIONS[plan.act]
        self.dense = Linear(width, width)

    def forward(self, pooled_BD: Tensor) -> Tensor:
        """(B, D) -> (B, D)."""
        return self.act(self.dense(pooled_BD))


@computes(spec.Classify)
class Classify(nn.Module):
    """Scores over classes from the first position, or from the mean of the real ones."""

    def __init__(self, plan: spec.Classify, width: int):
        super().__init__()
        if plan.pool not in ("first", "mean"):
            raise ConfigError(f"classify: pool {plan.pool!r} is neither 'first' nor 'mean'")
        self.pool = plan.pool
        self.pooler = part(plan.pooler, width) if plan.pooler else None
        self.out = Linear(width, plan.classes)

    def forward(self, x_BLD: Tensor, padding_BL: Tensor | None = None, tap: Tap = off) -> Tensor:
        """(B, L, D) -> logits (B, C). Tap pooled."""
        if self.pool == "first":
            pooled_BD = x_BLD[:, 0]
        elif padding_BL is None:
            pooled_BD = x_BLD.mean(1)
        else:
            real_BLx = padding_BL[..., None].to(x_BLD.dtype)
            pooled_BD = (x_BLD * real_BLx).sum(1) / real_BLx.sum(1).clamp(min=1)
        if self.pooler is not None:
            pooled_BD = self.pooler(pooled_BD)
        return self.out(tap("pooled", pooled_BD))


@computes(spec.Vectors)
class Vectors(nn.Module):
    """The last vectors themselves."""

    def __init__(self, plan: spec.Vectors, width: int):
        super().__init__()
        self.pooler = part(plan.pooler, width) if plan.pooler else None

    def forward(self, x_BLD: Tensor, padding_BL: Tensor | None = None, tap: Tap = off) -> Tensor:
        """(B, L, D) -> the same. With a pooler, tap pooled is what it makes of the first position (B, D)."""
        if self.pooler is not None and tap.wants("pooled"):
            tap("pooled", self.pooler(x_BLD[:, 0]))
        return x_BLD
