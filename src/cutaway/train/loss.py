"""Losses: of predicted tokens, without ever holding their probabilities in full precision, and of classes.

The gradient of a softmax cross-entropy is softmax minus one-hot: it is written over the logits, a block of
rows at a time, so the largest buffer is (E, V) in the model's own precision. The usual way makes four of
them, two in fp32.

B batch   L position   D width   V vocabulary   C class   E predictions in a row (B * L)   e some of them
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.models import AnyModel, Pair
from cutaway.tap import Tap, off

IGNORE = -1  # a target that is not scored
BLOCK_NUMBERS = 1 << 21  # numbers of fp32 a block works on: small enough to stay in cache


class Batch(NamedTuple):
    """What one micro-step reads: the model's inputs, the targets, where inputs are real (B, L).

    Targets are tokens (B, L), IGNORE where none is asked for, or a class for each row (B,). A batch is made
    on the processor, and moved by whoever computes with it.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    paddings: tuple[Tensor, ...] = ()

    @property
    def scored(self) -> int:
        """How many predictions count."""
        return int((self.targets != IGNORE).sum())

    @property
    def read(self) -> tuple[int, ...]:
        """How many positions of each input are real."""
        if self.paddings:
            return tuple(int(padding.sum()) for padding in self.paddings)
        return tuple(tokens_BL.numel() for tokens_BL in self.inputs)

    def to(self, device: torch.device) -> "Batch":
        """The same batch there."""
        inputs, paddings = (tuple(t.to(device) for t in some) for some in (self.inputs, self.paddings))
        return Batch(inputs, self.targets.to(device), paddings)


def next_token_loss(model: AnyModel, batch: Batch, total: int, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy in nats, summed over the batch's targets and divided by `total`.

    With `smoothing` the target is that share of the uniform distribution and the token for the rest (Szegedy
    et al. 2015).
    """
    batch = batch.to(model.vocab_matrix.device)
    x_ED = features_of(model, batch).flatten(0, 1)
    return _head_loss(model, x_ED, batch.targets.flatten(), total, smoothing)


def scored_token_loss(model: AnyModel, batch: Batch, total: int, smoothing: float = 0.0) -> Tensor:
    """`next_token_loss` where few positions are scored: only these go through the head."""
    x_ED, targets_E = scored_features(model, batch)
    return _head_loss(model, x_ED, targets_E, total, smoothing)


def scored_features(model: AnyModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """The last vectors (e, D) at the positions that are scored, and the targets (e,) there."""
    batch = batch.to(model.vocab_matrix.device)
    targets_E = batch.targets.flatten()
    places_e = (targets_E != IGNORE).nonzero()[:, 0]
    return features_of(model, batch).flatten(0, 1).index_select(0, places_e), targets_E[places_e]


def class_loss(model: AnyModel, batch: Batch, total: int, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the rows' classes in nats, summed and divided by `total`."""
    batch = batch.to(next(model.parameters()).device)
    logits_BC = logits_of(model, batch)
    nats = F.cross_entropy(logits_BC.float(), batch.targets, reduction="sum", label_smoothing=smoothing)
    return nats / max(total, 1)


def _head_loss(model: AnyModel, x_ED: Tensor, targets_E: Tensor, total: int, smoothing: float) -> Tensor:
    head, x_1ED = model.head, x_ED[None]
    if head.bias is not None or head.plan.cap is not None:
        logits_EV = head(x_1ED, model.vocab_matrix)[0]
        nats = F.cross_entropy(
            logits_EV.float(),
            targets_E,
            ignore_index=IGNORE,
            reduction="sum",
            label_smoothing=smoothing,
        )
        return nats / max(total, 1)
    narrow = head.features(x_1ED)[0]  # D, or what a transform made of it
    return LinearCrossEntropy.apply(narrow, model.vocab_matrix, targets_E, max(total, 1), smoothing)


class LinearCrossEntropy(torch.autograd.Function):
    """sum over rows of -log softmax(x W^T)[target], divided by `total`; both gradients are made going
    forward.
    """

    @staticmethod
    def forward(
        ctx, x_ED: Tensor, weight_VD: Tensor, targets_E: Tensor, total: int, smoothing: float = 0.0
    ) -> Tensor:
        """(E, D), (V, D), (E,) -> a number in fp32 (fp64 for fp64)."""
        logits_EV = x_ED @ weight_VD.mT
        nats = _to_gradient(logits_EV, targets_E, total, smoothing)
        ctx.save_for_backward(x_ED, weight_VD, logits_EV)
        return nats

    @staticmethod
    def backward(ctx, scale: Tensor):  # pyrefly: ignore[bad-override]
        x_ED, weight_VD, gradient_EV = ctx.saved_tensors
        x_grad = gradient_EV @ weight_VD if ctx.needs_input_grad[0] else None
        weight_grad = gradient_EV.mT @ x_ED if ctx.needs_input_grad[1] else None
        for grad in (x_grad, weight_grad):
            if grad is not None:
                grad.mul_(scale.to(grad.dtype))
        return x_grad, weight_grad, None, None, None


def _to_gradient(logits_EV: Tensor, targets_E: Tensor, total: int, smoothing: float) -> Tensor:
    """Overwrite logits with the gradient of the loss with respect to them; return the loss."""
    even = smoothing / logits_EV.size(1)  # what smoothing gives to every token
    rows = max(1, BLOCK_NUMBERS // logits_EV.size(1))
    fine = torch.float64 if logits_EV.dtype == torch.float64 else torch.float32
    nats = torch.zeros((), dtype=fine, device=logits_EV.device)
    for logits_eV, targets_e in zip(logits_EV.split(rows), targets_E.split(rows), strict=True):
        scored_ex = (targets_e != IGNORE)[:, None].to(fine)
        target_ex = targets_e.clamp(min=0)[:, None]
        fine_eV = logits_eV.to(fine)  # the logits themselves where they are fine already
        fine_eV -= fine_eV.amax(1, keepdim=True)
        wanted_ex = fine_eV.gather(1, target_ex) * (1 - smoothing)
        if smoothing:
            wanted_ex += fine_eV.sum(1, keepdim=True) * even
        whole_ex = fine_eV.exp_().sum(1, keepdim=True)
        nats += ((whole_ex.log() - wanted_ex) * scored_ex).sum()
        fine_eV *= scored_ex / (whole_ex * total)
        if smoothing:
            fine_eV -= scored_ex * (even / total)
        fine_eV.scatter_add_(1, target_ex, scored_ex * ((smoothing - 1) / total))
        if fine_eV is not logits_eV:
            logits_eV.copy_(fine_eV)
    return nats / total


@torch.no_grad()
def token_losses(model: AnyModel, batch: Batch) -> Tensor:
    """The loss of every target in nats (B, L), 0 where it is not scored."""
    batch = batch.to(model.vocab_matrix.device)
    x_BLD = features_of(model, batch)
    rows = max(1, BLOCK_NUMBERS // model.vocab_matrix.size(0))
    targets_E = batch.targets.flatten()
    losses = [
        F.cross_entropy(
            model.head(x_eD[None], model.vocab_matrix)[0].float(),
            targets_e,
            ignore_index=IGNORE,
            reduction="none",
        )
        for x_eD, targets_e in zip(x_BLD.flatten(0, 1).split(rows), targets_E.split(rows), strict=True)
    ]
    return torch.cat(losses).view_as(batch.targets)


def features_of(model: AnyModel, batch: Batch, tap: Tap = off) -> Tensor:
    """The model's last vectors for a batch, (B, L, D)."""
    return model.features(*batch.inputs, **paddings_of(model, batch), tap=tap)


def logits_of(model: AnyModel, batch: Batch, tap: Tap = off) -> Tensor:
    """What the model predicts for a batch: (B, L, V), or (B, C) from a classifying head."""
    return model(*batch.inputs, **paddings_of(model, batch), tap=tap)


def paddings_of(model: AnyModel, batch: Batch) -> dict[str, Any]:
    """The batch's paddings under the names that the model knows them by."""
    if isinstance(model, Pair):
        source_padding_BM, target_padding_BL = batch.paddings or (None, None)
        return {"source_padding_BM": source_padding_BM, "target_padding_BL": target_padding_BL}
    return {"padding_BL": batch.paddings[0] if batch.paddings else None}
