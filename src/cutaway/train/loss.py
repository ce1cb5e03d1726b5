"""Losses: of predicted tokens, without ever holding their probabilities in full precision, and of classes.

The gradient of a softmax cross-entropy is softmax minus one-hot: it is made going forward, a block of rows at
a time, so the largest buffer is (E, V) in the model's own precision. The usual way makes four of them, two in
fp32.

B batch   L position   D width   V vocabulary   C class   E predictions in a row (B * L)   e some of them
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.models import AnyModel, Pair
from cutaway.nn.heads import fine
from cutaway.nn.linear import linear, linear_into
from cutaway.tap import Tap, off

IGNORE = -1  # a target that is not scored
BLOCK_NUMBERS = 1 << 21  # numbers of fp32 a block works on: small enough to stay in cache
# of a block, at least and at most: one product of all takes up to twice as long (LOG.md)
ROWS, COLUMNS = 512, 8192


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
    nats = F.cross_entropy(fine(logits_BC), batch.targets, reduction="sum", label_smoothing=smoothing)
    return nats / max(total, 1)


def _head_loss(model: AnyModel, x_ED: Tensor, targets_E: Tensor, total: int, smoothing: float) -> Tensor:
    head, x_1ED = model.head, x_ED[None]
    if head.bias is not None or head.plan.cap is not None:
        logits_EV = head(x_1ED, model.vocab_matrix)[0]
        nats = F.cross_entropy(
            fine(logits_EV),
            targets_E,
            ignore_index=IGNORE,
            reduction="sum",
            label_smoothing=smoothing,
        )
        return nats / max(total, 1)
    narrow = head.features(x_1ED)[0]  # D, or what a transform made of it
    return LinearCrossEntropy.apply(narrow, model.vocab_matrix, targets_E, max(total, 1), smoothing)


class LinearCrossEntropy(torch.autograd.Function):
    """sum over rows of -log softmax(x W^T)[target], divided by `total`; the logits' gradient is made going
    forward. In bf16 both are as exact as bf16 is, also where the target is all but certain.
    """

    @staticmethod
    def forward(
        ctx, x_ED: Tensor, weight_VD: Tensor, targets_E: Tensor, total: int, smoothing: float = 0.0
    ) -> Tensor:
        """(E, D), (V, D), (E,) -> a number in fp32 (fp64 for fp64)."""
        gradient_EV = x_ED.new_empty(x_ED.size(0), weight_VD.size(0))
        rows = max(ROWS, BLOCK_NUMBERS // weight_VD.size(0))
        blocks = zip(*(every.split(rows) for every in (x_ED, targets_E, gradient_EV)), strict=True)
        nats_E = torch.cat([_to_gradient(x, weight_VD, t, g, smoothing) for x, t, g in blocks])
        scored_E = targets_E != IGNORE
        ctx.save_for_backward(x_ED, weight_VD, gradient_EV, scored_E)
        ctx.total = total
        return nats_E.where(scored_E, 0).sum() / total

    @staticmethod
    def backward(ctx, scale: Tensor):  # pyrefly: ignore[bad-override]
        x_ED, weight_VD, gradient_EV, scored_E = ctx.saved_tensors
        share_E1 = (scored_E * (scale / ctx.total))[:, None]
        x_grad = weight_grad = None
        if ctx.needs_input_grad[0]:
            x_grad = linear(gradient_EV, weight_VD.mT).mul_(share_E1)
        if ctx.needs_input_grad[1]:
            weight_grad, shared_ED = torch.empty_like(weight_VD), (x_ED * share_E1).to(x_ED.dtype)
            columns = zip(gradient_EV.split(COLUMNS, 1), weight_grad.split(COLUMNS), strict=True)
            for gradient_Ev, grad_vD in columns:
                linear_into(grad_vD, gradient_Ev.mT, shared_ED.mT)
        return x_grad, weight_grad, None, None, None


def _to_gradient(
    x_eD: Tensor, weight_VD: Tensor, targets_e: Tensor, gradient_eV: Tensor, smoothing: float
) -> Tensor:
    """Write the gradient of each row's loss with respect to its logits; return the losses (e,)."""
    logits_eV = linear(x_eD, weight_VD)
    torch.softmax(logits_eV, 1, out=gradient_eV)
    dtype = torch.promote_types(logits_eV.dtype, torch.float32)
    targets = torch.arange(len(targets_e), device=targets_e.device), targets_e.clamp(min=0)
    target_e = logits_eV[targets].to(dtype)
    whole_e = logits_eV.amax(1).to(dtype) - gradient_eV.amax(1).to(dtype).log()  # log of the sum of exponents
    gradient_eV[targets] = 0
    rest_e = gradient_eV.sum(1)  # 1 - p of the target, exact where p itself would be rounded to 1
    nats_e = torch.where(rest_e < 0.5, -torch.log1p(-rest_e.to(dtype)), whole_e - target_e)
    if smoothing:
        even = smoothing / logits_eV.size(1)
        nats_e += smoothing * (target_e - logits_eV.mean(1, dtype=dtype))
        gradient_eV -= even
        rest_e = rest_e - smoothing + even
    gradient_eV[targets] = -rest_e
    return nats_e


@torch.no_grad()
def token_losses(model: AnyModel, batch: Batch) -> Tensor:
    """The loss of every target in nats (B, L), 0 where it is not scored."""
    batch = batch.to(model.vocab_matrix.device)
    x_BLD = features_of(model, batch)
    rows = max(1, BLOCK_NUMBERS // model.vocab_matrix.size(0))
    targets_E = batch.targets.flatten()
    losses = [
        F.cross_entropy(
            fine(model.head(x_eD[None], model.vocab_matrix)[0]),
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
