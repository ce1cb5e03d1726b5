"""Small models whose every parameter is far from zero, in float64, so that a wrong mask or position shows."""

from collections.abc import Callable
from dataclasses import replace

import torch

from cutaway import spec
from cutaway.models import AnyModel, build

VOCAB = 23


def filled(plan: spec.Model, seed: int = 0, dtype: torch.dtype = torch.float64) -> AnyModel:
    """The model of a spec with random values everywhere, gains, biases and residual outputs included."""
    model = build(plan).eval().to(dtype)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            spread = 0.4 if parameter.dim() == 1 else parameter.size(-1) ** -0.5
            noise = torch.empty_like(parameter).normal_(generator=generator) * spread
            parameter.copy_(noise + (1.0 if parameter.dim() == 1 else 0.0))
    return model


def with_attention(**changes: object) -> spec.Single:
    """`small` with other attention."""
    plan = spec.small(3, 16, 4, vocab=VOCAB)
    block = plan.stack.blocks[0]
    return replace(
        plan, stack=replace(plan.stack, blocks=(replace(block, mixer=replace(block.mixer, **changes)),))
    )


def with_bias(bias: spec.Bias) -> spec.Single:
    """`small` without rotation, with a bias on every score."""
    plan = with_attention(rotary=None)
    return replace(plan, stack=replace(plan.stack, bias=bias))


def alternating() -> spec.Single:
    """Local, local, global: two windows and none in one stack."""
    plan = spec.small(3, 16, 4, vocab=VOCAB)
    block = plan.stack.blocks[0]
    blocks = tuple(replace(block, mixer=replace(block.mixer, window=window)) for window in (2, 3, None))
    return replace(plan, stack=replace(plan.stack, blocks=blocks))


SINGLES: dict[str, Callable[[], spec.Single]] = {
    "gpt2": lambda: spec.gpt2(2, 16, 4, VOCAB, 64),
    "llama3": lambda: spec.llama3(2, 16, 4, 2, 24, VOCAB),
    "small": lambda: spec.small(2, 16, 4, vocab=VOCAB),
    "quick": lambda: spec.quick(2, 16, 4, vocab=VOCAB),
    "alibi": lambda: with_bias(spec.ALiBi()),
    "relative": lambda: with_bias(spec.RelativeBias(8, 12)),
    "windowed": lambda: with_attention(window=3),
    "alternating": alternating,
    "qk_norm": lambda: with_attention(qk_norm=spec.LayerNorm()),
    "multi_query": lambda: with_attention(kv_heads=1),
    "soft_cap": lambda: with_attention(cap=2.0),
    "half_rotary": lambda: with_attention(rotary=spec.Rotary(fraction=0.5, pairs="adjacent")),
}
PAIRS: dict[str, Callable[[], spec.Paired]] = {
    "t5": lambda: spec.t5(2, 16, 4, 24, VOCAB),
    "vaswani": lambda: spec.vaswani(2, 16, 4, 24, VOCAB),
    "quick_pair": lambda: spec.quick_pair(2, 16, 4, vocab=VOCAB),
}


def tokens(rows: int, length: int, seed: int = 1) -> torch.Tensor:
    """Random token ids (rows, length)."""
    return torch.randint(VOCAB, (rows, length), generator=torch.Generator().manual_seed(seed))
