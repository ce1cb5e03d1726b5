"""x W^T + b: torch's own product, or oneDNN's in fp32 where that is the faster one.

torch multiplies fp32 by MKL, which uses no AVX-512 on processors of AMD; oneDNN, which torch has as well,
does, and is twice as fast there (LOG.md). It is an operator of its own, as attention in blocks is, so that
compiled and eager code are equal to the bit.

D input   V output   E rows, all axes but the last together
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import has_torch_function
from torch.utils.flop_counter import register_flop_formula

PLAIN = (Tensor, nn.Parameter)  # a DTensor has no rule for our operator
LEAST = 1 << 23  # multiplications: with fewer the call costs more than the product


def onednn_is_faster() -> bool:
    """Whether this is a processor of AMD with AVX-512, and torch has both libraries."""
    told = torch.cpu.get_capabilities()
    here = torch.backends.mkl.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    return here and bool(told.get("avx512_f")) and "AMD" in str(told.get("cpu_name"))


def has_bf16_products() -> bool:
    """Whether this processor multiplies bf16 itself; elsewhere fp32 does it, at a tenth of the speed."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


ONEDNN_IS_FASTER = onednn_is_faster()
HAS_BF16 = has_bf16_products()


class Linear(nn.Linear):
    """torch's Linear, by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., D) -> (..., V)."""
        return linear(input, self.weight, self.bias)


def linear(x: Tensor, weight_VD: Tensor, bias_V: Tensor | None = None) -> Tensor:
    """x W^T + b, (..., D) -> (..., V)."""
    if ONEDNN_IS_FASTER and suits(x, weight_VD, bias_V):
        return product(x, weight_VD, bias_V)
    return F.linear(x, weight_VD, bias_V)


def linear_into(out_EV: Tensor, x_ED: Tensor, weight_VD: Tensor) -> None:
    """x W^T, written into `out_EV`."""
    if ONEDNN_IS_FASTER and suits(x_ED, weight_VD):
        out_EV.copy_(product(x_ED, weight_VD, None))
    else:
        torch.mm(x_ED, weight_VD.mT, out=out_EV)


def suits(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> bool:
    """Whether it is a large product of plain fp32 tensors on the processor, and torch has nothing else to do
    with it. Compiled, one row is left to be a sum (`generate/one_row.py`); the size is a guard of the graph.
    """
    given = (x, weight) if bias is None else (x, weight, bias)
    return (
        x.dim() > 1
        and weight.dim() == 2
        and x.size(-1) == weight.size(1)
        and (bias is None or bias.shape == weight.shape[:1])
        and x.numel() * weight.size(0) >= LEAST
        and (x.numel() > x.size(-1) or not torch.compiler.is_compiling())
        and all(type(one) in PLAIN and one.dtype == torch.float32 for one in given)
        and all(one.device.type == "cpu" and one.layout == torch.strided for one in given)
        and not has_torch_function(given)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


@torch.library.custom_op("cutaway::product", mutates_args=())
def product(x: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    """The same in fp32 by oneDNN; x and W may be views with any strides."""
    bias_V = None if bias_V is None else bias_V.contiguous()  # it alone is read as if it were
    return torch.ops.mkldnn._linear_pointwise(x, weight_VD, bias_V, "none", [], "")


@product.register_fake
def _(x: Tensor, weight_VD: Tensor, bias_V: Tensor | None) -> Tensor:
    return x.new_empty(*x.shape[:-1], weight_VD.size(0))


@register_flop_formula(torch.ops.cutaway.product)
def _(x_shape, weight_shape, *_, **__) -> int:
    return 2 * math.prod(x_shape) * weight_shape[0]


def _remember(ctx, inputs: tuple, output: Tensor) -> None:
    x, weight_VD, _ = inputs
    wants_x, wants_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(x if wants_weight else None, weight_VD if wants_x else None)


def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, weight_VD = ctx.saved_tensors
    multiply = F.linear if torch._C._are_functorch_transforms_active() else product
    grad_EV = grad.reshape(-1, grad.size(-1))
    return (
        None if weight_VD is None else multiply(grad, weight_VD.mT, None),
        None if x is None else multiply(grad_EV.mT, x.reshape(-1, x.size(-1)).mT, None),
        grad_EV.sum(0) if ctx.needs_input_grad[2] else None,
    )


product.register_autograd(_backward, setup_context=_remember)
