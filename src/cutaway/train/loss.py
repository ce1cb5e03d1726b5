"""The loss of next-token prediction, without ever holding its probabilities in full precision.

The gradient of a softmax cross-entropy is softmax minus one-hot: it is written over the logits, a block of
rows at a time, so the largest buffer is (E, V) in the model's own precision. The usual way makes four of
them, two in fp32.

B batch   L position   D width   V vocabulary   E predictions in a row (B * L)   e some of them
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.models import AnyModel, Paired
from cutaway.tap import Tap, off

IGNORE = -1  # a target that is not scored
BLOCK_NUMBERS = 1 << 21  # numbers of fp32 a block works on: small enough to stay in cache


class Batch(NamedTuple):
    """What one micro-step reads: the model's inputs, the targets (B, L; IGNORE is not scored), which are
    real. It is made on the processor, and moved by whoever computes with it.
    """

    inputs: tuple[Tensor, ...]
    targets_BL: Tensor
    paddings: tuple[Tensor, ...] = ()

    @property
    def scored(self) -> int:
        """How many predictions count."""
        return int((self.targets_BL != IGNORE).sum())

    def to(self, device: torch.device) -> "Batch":
        """The same batch there."""
        inputs, paddings = (tuple(t.to(device) for t in some) for some in (self.inputs, self.paddings))
        return Batch(inputs, self.targets_BL.to(device), paddings)


def next_token_loss(model: AnyModel, batch: Batch, total: int) -> Tensor:
    """Cross-entropy in nats, summed over the batch's targets and divided by `total`."""
    batch = batch.to(model.vocab_matrix.device)
    x_BLD = features_of(model, batch)
    head = model.head
    targets_E = batch.targets_BL.flatten()
    if head.bias is not None or head.plan.cap is not None:
        logits_EV = head(x_BLD, model.vocab_matrix).flatten(0, 1)
        return F.cross_entropy(logits_EV.float(), targets_E, ignore_index=IGNORE, reduction="sum") / max(
            total, 1
        )
    features_ED = head.features(x_BLD).flatten(0, 1)
    return LinearCrossEntropy.apply(features_ED, model.vocab_matrix, targets_E, max(total, 1))


class LinearCrossEntropy(torch.autograd.Function):
    """sum over rows of -log softmax(x W^T)[target], divided by `total`; both gradients are made going
    forward.
    """

    @staticmethod
    def forward(ctx, x_ED: Tensor, weight_VD: Tensor, targets_E: Tensor, total: int) -> Tensor:
        """(E, D), (V, D), (E,) -> a number in fp32 (fp64 for fp64)."""
        logits_EV = x_ED @ weight_VD.mT
        nats = _to_gradient(logits_EV, targets_E, total)
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
        return x_grad, weight_grad, None, None


def _to_gradient(logits_EV: Tensor, targets_E: Tensor, total: int) -> Tensor:
    """Overwrite logits with the gradient of the loss with respect to them; return the loss."""
    rows = max(1, BLOCK_NUMBERS // logits_EV.size(1))
    fine = torch.float64 if logits_EV.dtype == torch.float64 else torch.float32
    nats = torch.zeros((), dtype=fine, device=logits_EV.device)
    for logits_eV, targets_e in zip(logits_EV.split(rows), targets_E.split(rows), strict=True):
        scored_ex = (targets_e != IGNORE)[:, None].to(fine)
        target_ex = targets_e.clamp(min=0)[:, None]
        log_eV = torch.log_softmax(logits_eV, -1, dtype=fine)
        nats -= (log_eV.gather(1, target_ex) * scored_ex).sum()
        gradient_eV = (
            log_eV.exp_().scatter_add_(1, target_ex, -torch.ones_like(scored_ex)).mul_(scored_ex / total)
        )
        logits_eV.copy_(gradient_eV)
    return nats / total


@torch.no_grad()
def token_losses(model: AnyModel, batch: Batch) -> Tensor:
    """The loss of every target in nats (B, L), 0 where it is not scored."""
    batch = batch.to(model.vocab_matrix.device)
    x_BLD = features_of(model, batch)
    rows = max(1, BLOCK_NUMBERS // model.vocab_matrix.size(0))
    targets_E = batch.targets_BL.flatten()
    losses = [
        F.cross_entropy(
            model.head(x_eD[None], model.vocab_matrix)[0].float(),
            targets_e,
            ignore_index=IGNORE,
            reduction="none",
        )
        for x_eD, targets_e in zip(x_BLD.flatten(0, 1).split(rows), targets_E.split(rows), strict=True)
    ]
    return torch.cat(losses).view_as(batch.targets_BL)


def features_of(model: AnyModel, batch: Batch, tap: Tap = off) -> Tensor:
    """The model's last vectors for a batch, (B, L, D)."""
    if isinstance(model, Paired):
        source_BM, target_BL = batch.inputs
        source_padding_BM, target_padding_BL = batch.paddings or (None, None)
        return model.features(
            source_BM,
            target_BL,
            source_padding_BM=source_padding_BM,
            target_padding_BL=target_padding_BL,
            tap=tap,
        )
    padding_BL = batch.paddings[0] if batch.paddings else None
    return model.features(*batch.inputs, padding_BL=padding_BL, tap=tap)
