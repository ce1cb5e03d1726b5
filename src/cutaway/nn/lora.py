"""Low-rank adaptation (Hu et al. 2021): W x + b + (alpha / rank) B A dropout(x).

W and b stand still. A is drawn and B is zero, so that the first step begins with W alone.

B batch   L position   D input   V output   E rank
"""

import torch
from torch import Tensor, nn

from cutaway.nn.dropout import drop
from cutaway.nn.linear import linear


class LowRank(nn.Linear):
    """A linear layer that takes over another's weight and bias, with `lora_a` (E, D), `lora_b` (V, E) beside.

    The names of weight and bias stay what they were. Both new matrices are zero until somebody fills them.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float, dropout: float = 0.0):
        nn.Module.__init__(self)  # that of Linear would make a weight of its own
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = linear.weight
        self.register_parameter("bias", linear.bias)
        self.rank, self.alpha, self.dropout = rank, alpha, dropout
        self.lora_a = nn.Parameter(linear.weight.new_zeros(rank, linear.in_features))
        self.lora_b = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))

    @property
    def scale(self) -> float:
        """What the product of the two is multiplied with."""
        return self.alpha / self.rank

    def forward(self, input: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, V)."""
        low_BLE = linear(drop(input, self.dropout, self.training), self.lora_a)
        return linear(input, self.weight, self.bias) + linear(low_BLE, self.lora_b) * self.scale

    def merged(self) -> Tensor:
        """One matrix (V, D) that does what the three do, in the type of the weight."""
        fine = torch.promote_types(self.weight.dtype, torch.float32)
        change_VD = self.lora_b.to(fine) @ self.lora_a.to(fine) * self.scale
        return (self.weight.to(fine) + change_VD).to(self.weight.dtype).detach()

    def extra_repr(self) -> str:
        """As Linear has it, and the adapter's numbers."""
        return f"{super().extra_repr()}, rank={self.rank}, alpha={self.alpha:g}, dropout={self.dropout:g}"
