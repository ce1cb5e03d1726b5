"""Feed-forward layers: the MLP of Phuong & Hutter's algorithms 8-10, plain and gated (Shazeer 2020).

B batch   L position   D width   F hidden
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway import spec
from cutaway.nn.dropout import drop
from cutaway.nn.linear import Linear
from cutaway.nn.part import computes
from cutaway.tap import Tap, off


def relu_squared(x: Tensor) -> Tensor:
    """max(0, x)^2, So et al. 2021."""
    return ReluSquared.apply(x)


class ReluSquared(torch.autograd.Function):
    """max(0, x)^2; its gradient in three passes over x, where torch's two functions take six."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """Any shape -> the same."""
        ctx.save_for_backward(x)  # and not max(0, x), which a second derivative would take for a constant
        positive = F.relu(x)
        return positive * positive

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        (x,) = ctx.saved_tensors
        return (grad * F.relu(x)).mul_(2)


def gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation, as GPT-2 has it.

    In bf16, compiled for a processor, x (1 + tanh z) / 2 is written as x sigmoid(2 z), which is the same and
    takes half the time.
    """
    if x.dtype == torch.bfloat16 and x.device.type == "cpu" and torch.compiler.is_compiling():
        fine = x.float()
        return (fine * torch.sigmoid(math.sqrt(8 / math.pi) * (fine + 0.044715 * fine**3))).to(x.dtype)
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu_squared": relu_squared,
    "gelu": F.gelu,
    "gelu_tanh": gelu_tanh,
    "silu": F.silu,
    "tanh": torch.tanh,
}


@computes(spec.MLP)
class MLP(nn.Module):
    """down(act(up(x)))."""

    ends_in = "down"

    def __init__(self, plan: spec.MLP, width: int):
        super().__init__()
        self.act = ACTIVATIONS[plan.act]
        self.dropout = 0.0
        self.up = Linear(width, plan.hidden, bias=plan.bias)
        self.down = Linear(plan.hidden, width, bias=plan.bias)

    def forward(self, x_BLD: Tensor, tap: Tap = off) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps up, hidden, out."""
        up_BLF = tap("up", self.up(x_BLD))
        hidden_BLF = tap("hidden", self.act(up_BLF))
        return tap("out", self.down(drop(hidden_BLF, self.dropout, self.training)))


@computes(spec.GatedMLP)
class GatedMLP(nn.Module):
    """down(act(gate(x)) * up(x))."""

    ends_in = "down"

    def __init__(self, plan: spec.GatedMLP, width: int):
        super().__init__()
        self.act = ACTIVATIONS[plan.act]
        self.dropout = 0.0
        self.gate = Linear(width, plan.hidden, bias=plan.bias)
        self.up = Linear(width, plan.hidden, bias=plan.bias)
        self.down = Linear(plan.hidden, width, bias=plan.bias)

    def forward(self, x_BLD: Tensor, tap: Tap = off) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps gate, up, hidden, out."""
        gate_BLF = tap("gate", self.gate(x_BLD))
        up_BLF = tap("up", self.up(x_BLD))
        hidden_BLF = tap("hidden", self.act(gate_BLF) * up_BLF)
        return tap("out", self.down(drop(hidden_BLF, self.dropout, self.training)))
