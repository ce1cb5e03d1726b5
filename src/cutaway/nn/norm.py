"""Normalisation: Algorithm 6 of Phuong & Hutter (2022), which has no epsilon; here eps is part of the record.

The gain may be finer than what it scales: what comes out is as coarse as what went in.

D width; E any leading axes, flat or not
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway import spec
from cutaway.nn.part import computes
from cutaway.tap import Tap, off


@computes(spec.LayerNorm)
class LayerNorm(nn.Module):
    """(x - mean) / sqrt(population variance + eps) * weight + bias."""

    def __init__(self, plan: spec.LayerNorm, width: int):
        super().__init__()
        self.eps = plan.eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if plan.bias else None

    def forward(self, x: Tensor, tap: Tap = off) -> Tensor:
        """`x` (..., D) -> (..., D). Taps scale (..., 1), the divisor; normalized, before the gain; out."""
        if tap.wants("scale", "normalized"):
            scale = tap("scale", (x.var(-1, keepdim=True, correction=0) + self.eps).sqrt())
            normalized = tap("normalized", (x - x.mean(-1, keepdim=True)) / scale)
            if tap.edits("scale", "normalized"):
                open_ = normalized * self.weight
                return tap("out", (open_ if self.bias is None else open_ + self.bias).to(x.dtype))
        fine = x if x.device.type == "cpu" else x.to(self.weight.dtype)  # a GPU's kernel takes one type
        return tap("out", F.layer_norm(fine, self.weight.shape, self.weight, self.bias, self.eps).to(x.dtype))


@computes(spec.RMSNorm)
class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (offset + weight)."""

    def __init__(self, plan: spec.RMSNorm, width: int):
        super().__init__()
        self.eps, self.offset = plan.eps, plan.offset
        self.weight = nn.Parameter(torch.full((width,), 1.0 - plan.offset))

    def forward(self, x: Tensor, tap: Tap = off) -> Tensor:
        """`x` (..., D) -> (..., D). Taps scale (..., 1), the divisor; normalized, before the gain; out."""
        gain = self.weight + self.offset if self.offset else self.weight
        if tap.wants("scale", "normalized"):
            scale = tap("scale", (x.square().mean(-1, keepdim=True) + self.eps).sqrt())
            normalized = tap("normalized", x / scale)
            if tap.edits("scale", "normalized"):
                return tap("out", (normalized * gain).to(x.dtype))
        return tap("out", RootMeanSquare.apply(x, gain, self.eps))


class RootMeanSquare(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * gain; its gradient in six passes over x, where torch takes twelve."""

    @staticmethod
    def forward(ctx, x: Tensor, gain_D: Tensor, eps: float) -> Tensor:
        """(..., D), (D,) -> (..., D)."""
        ctx.save_for_backward(x, gain_D)
        ctx.eps = eps
        if gain_D.dtype == x.dtype:
            return F.rms_norm(x, gain_D.shape, gain_D, eps)
        fine = torch.promote_types(x.dtype, gain_D.dtype)
        return (x * _inverse(x, eps, fine)).mul_(gain_D).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:  # pyrefly: ignore[bad-override]
        x, gain_D = ctx.saved_tensors
        gain_D = gain_D.to(x.dtype)
        fine = torch.promote_types(x.dtype, torch.float32)
        inverse = _inverse(x, ctx.eps, fine)
        product = grad * x
        gain_grad_D = None
        if ctx.needs_input_grad[1]:
            gain_grad_D = inverse.to(x.dtype).flatten() @ product.reshape(-1, x.size(-1))
        along = (product @ gain_D)[..., None] * inverse**3 / x.size(-1)
        x_grad = (grad * gain_D).mul_(inverse.to(x.dtype)).addcmul_(x, along.to(x.dtype), value=-1)
        return x_grad, gain_grad_D, None


def _inverse(x: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """1 / sqrt(mean(x^2) + eps): (..., D) -> (..., 1) in `dtype`."""
    square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype).square()
    return (square / x.size(-1) + eps).rsqrt()
