"""Muon (Jordan et al. 2024): momentum, then the nearest matrix whose singular values are about one.

The update is torch.optim.Muon's. There each matrix is orthogonalised alone, and in a small model the calls
cost more than the arithmetic; here the matrices of one shape go through the iteration as one batch. There the
iteration is in bf16, which a processor without such kernels computes at a tenth of fp32's speed; here it is
in the precision the run computes in. A convolution's kernel is the matrix that its unfolded input is
multiplied by: a row for each output.

E matrices of one shape   L rows (the fewer)   M columns
"""

import math
from collections import defaultdict

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, chosen for its slope at zero
ITERATIONS = 5
EPS = 1e-7


class Muon(torch.optim.Optimizer):
    """torch.optim.Muon's steps, state and rates; all matrices of a shape at once, iterating in `dtype`."""

    def __init__(
        self,
        matrices: list[Tensor],
        *,
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.bfloat16,
    ):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyrefly: ignore[bad-override]
        """One step on every matrix that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes[matrix.shape].append(matrix)
            for shape, matrices in shapes.items():
                updates = torch.stack([self._momentum(matrix, group["momentum"]) for matrix in matrices])
                updates_ELM = orthogonalise(updates.flatten(2))
                rate = group["lr"] * math.sqrt(max(1, updates_ELM.size(1) / updates_ELM.size(2)))
                for matrix, update_LM in zip(matrices, updates_ELM, strict=True):
                    matrix.mul_(1 - group["lr"] * group["weight_decay"])
                    matrix.add_(update_LM.view(shape), alpha=-rate)

    def _momentum(self, matrix: Tensor, momentum: float) -> Tensor:
        """The gradient looked at from where momentum leads."""
        assert matrix.grad is not None
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix)
        buffer = state["momentum_buffer"].lerp_(matrix.grad, 1 - momentum)
        return matrix.grad.lerp(buffer, momentum).to(self.dtype)


def orthogonalise(x_ELM: Tensor) -> Tensor:
    """Newton and Schulz's iteration on a batch (E, L, M) of matrices, in their own precision."""
    tall = x_ELM.size(1) > x_ELM.size(2)
    x_ELM = x_ELM.mT if tall else x_ELM
    x_ELM = x_ELM / x_ELM.flatten(1).norm(dim=1).clamp(min=EPS)[:, None, None]
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram_ELL = x_ELM @ x_ELM.mT
        x_ELM = torch.baddbmm(
            x_ELM, torch.baddbmm(gram_ELL, gram_ELL, gram_ELL, beta=b, alpha=c), x_ELM, beta=a
        )
    return x_ELM.mT if tall else x_ELM
