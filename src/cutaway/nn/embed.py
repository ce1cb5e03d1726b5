"""Inputs: token embedding (Algorithm 1 of Phuong & Hutter 2022), positions (Algorithm 2), image patches.

B batch   L position   D width   V vocabulary   E embedding width   P patch   C channel
"""

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import LimitError
from cutaway.nn.dropout import drop
from cutaway.nn.linear import Linear
from cutaway.nn.part import computes, part
from cutaway.tap import Tap, off


@computes(spec.Tokens)
class Tokens(nn.Module):
    """Token vector, plus position, plus segment; then norm and dropout."""

    def __init__(self, plan: spec.Tokens, width: int):
        super().__init__()
        self.scale, self.dropout = plan.scale, plan.dropout
        narrow = plan.factor or width
        self.token = nn.Embedding(plan.vocab, narrow)
        self.position = part(plan.position, narrow) if plan.position else None
        self.segment = nn.Embedding(plan.segments, narrow) if plan.segments else None
        self.norm = part(plan.norm, narrow) if plan.norm else None
        self.widen = Linear(narrow, width) if plan.factor else None

    def forward(
        self,
        tokens_BL: Tensor,
        *,
        positions: Tensor,
        last: int,
        segments_BL: Tensor | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """Token ids and positions (B or 1, L) -> (B, L, D). Taps token, position, segment, out."""
        x_BLE = tap("token", self.token(tokens_BL))
        if self.scale != 1.0:
            x_BLE = x_BLE * self.scale
        if self.position is not None:
            x_BLE = x_BLE + tap("position", self.position(positions, last).to(x_BLE.dtype))
        if self.segment is not None:
            segments_BL = torch.zeros_like(tokens_BL) if segments_BL is None else segments_BL
            x_BLE = x_BLE + tap("segment", self.segment(segments_BL))
        if self.norm is not None:
            x_BLE = self.norm(x_BLE, tap.at("norm"))
        x_BLE = drop(x_BLE, self.dropout, self.training)
        return tap("out", x_BLE if self.widen is None else self.widen(x_BLE))


@computes(spec.Patches)
class Patches(nn.Module):
    """Cut the image into squares, one vector each, a class token in front, learned positions."""

    def __init__(self, plan: spec.Patches, width: int):
        super().__init__()
        self.image, self.channels, self.dropout = plan.image, plan.channels, plan.dropout
        count = (plan.image // plan.size) ** 2
        self.patch = nn.Conv2d(plan.channels, width, plan.size, stride=plan.size)
        self.first = nn.Parameter(torch.zeros(width))
        self.position = nn.Parameter(torch.empty(1 + count, width))

    def forward(self, images: Tensor, *, tap: Tap = off, **unused: object) -> Tensor:
        """(B, C, image, image) -> (B, 1 + P, D). Taps patch, position, out.

        Raises LimitError for images of another shape.
        """
        if images.shape[1:] != (self.channels, self.image, self.image):
            raise LimitError(
                f"images are {tuple(images.shape[1:])}, "
                f"the model reads {(self.channels, self.image, self.image)}"
            )
        patch_BPD = tap("patch", self.patch(images).flatten(2).mT)
        first_BxD = self.first.expand(images.size(0), 1, -1)
        x_BLD = torch.cat([first_BxD, patch_BPD], dim=1) + tap("position", self.position)
        return tap("out", drop(x_BLD, self.dropout, self.training))
