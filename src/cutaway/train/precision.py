"""Training in bf16 with fp32 masters: the masters are the model, the working copy is derived from them.

The weights that are stepped, saved and evaluated are fp32. The working copy computes; its gradients are
added to the masters' in fp32, and after each step it takes the masters' values again. In fp32 the two are
one. Both are on one device. What stands still is copied once.

What norms learn stays fp32 in the copy: above 1 the numbers of bf16 are 2^-7 apart, more than many steps
move a gain, and the loss fell the slower for it (LOG.md).
"""

import copy

import torch
from torch import Tensor

from cutaway.models import AnyModel
from cutaway.nn.norm import LayerNorm, RMSNorm


class Working:
    """A model and the copy of it that computes in `dtype`."""

    def __init__(self, master: AnyModel, dtype: torch.dtype):
        self.master = master
        self.model = master if dtype == torch.float32 else _coarse(master, dtype)
        self.dtype, self.device = dtype, next(master.parameters()).device
        self._masters: list[Tensor] = [p for p in master.parameters() if p.requires_grad]
        self._copies: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]

    @property
    def drawing(self) -> list[torch.device]:
        """The devices, beside the processor, whose random numbers a step of training draws."""
        return [self.device] if self.device.type == "cuda" else []

    def refresh(self) -> None:
        """Give the copy the masters' values."""
        if self.model is not self.master:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._masters)

    def collect(self) -> None:
        """Add the copy's gradients to the masters', and clear them."""
        if self.model is self.master:
            return
        for master, small in zip(self._masters, self._copies, strict=True):
            if small.grad is not None:
                if master.grad is None:
                    master.grad = small.grad.to(master.dtype)
                else:
                    master.grad.add_(small.grad)
                small.grad = None

    def clip(self, most: float | None) -> Tensor:
        """Scale the gradients so that their norm is at most `most`; returns the norm before."""
        grads = [p.grad for p in self._masters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(grads)
        if most is not None and bool(torch.isfinite(norm)):
            torch.nn.utils.clip_grads_with_norm_(self._masters, most, norm)
        return norm

    def forget(self) -> None:
        """Drop the gradients."""
        for parameter in (*self._masters, *self._copies):
            parameter.grad = None


def _coarse(master: AnyModel, dtype: torch.dtype) -> AnyModel:
    """A copy of the model in `dtype`, but for its norms."""
    model = copy.deepcopy(master).to(dtype)
    for small, module in zip(model.modules(), master.modules(), strict=True):
        if isinstance(module, LayerNorm | RMSNorm):
            for name, parameter in module.named_parameters():
                small.get_parameter(name).data = parameter.detach().clone()
    return model
