"""How much arithmetic a token costs, so that a rate of tokens can be held against the machine's peak."""

from torch import nn

from cutaway.models import Paired, Single


def training_flops(model: Single | Paired, length: int) -> float:
    """Floating-point operations a token of one training step takes: 6 a weight that is multiplied with, and
    attention.

    Kaplan et al. 2020, section 2.1; attention counts 12 * width * length a layer, half of it where only the
    past is
    seen. Each side of a pair counts as `length` long.
    """
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    if getattr(model.head, "plan", None) is not None and model.head.out is None:
        weights += model.vocab_matrix.numel()  # a tied matrix is multiplied with, too
    attention = 0.0
    for stack in [m for m in model.modules() if hasattr(m, "sees")]:
        seen = 0.5 if stack.sees == "past" else 1.0
        for block in stack.blocks:
            if hasattr(block.mixer, "heads"):
                depth = stack.layers / len(stack.blocks)
                attention += 12 * block.mixer.heads * block.mixer.head_width * length * seen * depth
    return 6.0 * weights + attention
