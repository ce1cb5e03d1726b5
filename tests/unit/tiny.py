"""Every preset in miniature, and what its forward pass reads."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from cutaway import models, spec
from cutaway.models import AnyModel

VOCAB = 11
SIZES: dict[str, dict[str, int]] = {
    "gpt2": {"layers": 2, "width": 16, "heads": 4, "vocab": VOCAB, "length": 12},
    "llama3": {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "hidden": 24, "vocab": VOCAB},
    "bert": {"layers": 2, "width": 16, "heads": 4, "vocab": VOCAB, "length": 12},
    "t5": {"layers": 2, "width": 16, "heads": 4, "hidden": 24, "vocab": VOCAB},
    "vit": {"layers": 2, "width": 16, "heads": 4, "image": 8, "size": 4, "classes": 5},
    "vaswani": {"layers": 2, "width": 16, "heads": 4, "hidden": 24, "vocab": VOCAB},
    "small": {"layers": 2, "width": 16, "heads": 4, "kv_heads": 2, "hidden": 24, "vocab": VOCAB},
    "quick": {"layers": 2, "width": 16, "heads": 4, "vocab": VOCAB},
    "quick_pair": {"layers": 2, "width": 16, "heads": 4, "vocab": VOCAB},
    "quick_encoder": {"layers": 2, "width": 16, "heads": 4, "vocab": VOCAB},
}

PRIOR: dict[str, dict[str, int]] = {
    "lstm": {"layers": 2, "width": 16, "vocab": VOCAB},
    "gru": {"layers": 2, "width": 16, "vocab": VOCAB},
    "sutskever": {"layers": 2, "width": 16, "vocab": VOCAB},
    "cho": {"layers": 2, "width": 16, "vocab": VOCAB},
    "bahdanau": {"layers": 2, "width": 16, "vocab": VOCAB},
    "luong": {"layers": 2, "width": 16, "vocab": VOCAB},
    "gehring": {"layers": 2, "width": 16, "vocab": VOCAB, "length": 12},
}
BRIDGED = ["sutskever_both", "cho_both", "luong_both"]  # with a reader that reads both ways
PAIRS = [name for name in PRIOR if name not in ("lstm", "gru")] + BRIDGED


def plan(preset: str, **sizes: object) -> spec.Model:
    """A small spec of a preset, or of one of `BRIDGED`."""
    name = preset.removesuffix("_both")
    of = spec.PRESETS[name](**((SIZES | PRIOR)[name] | sizes))
    return of if name == preset else replace(of, encoder=replace(of.encoder, reads="both"))


def redrawn(model: nn.Module, seed: int = 0) -> nn.Module:
    """In float64, every parameter anew: fresh biases are 0 and gains 1, which hides mistakes."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            gain = "norm" in name.lower() and name.endswith("weight")
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3 + gain
            )
    return model.eval()


def tiny(preset: str, **sizes: object) -> AnyModel:
    """A small model of a preset, in float64, in evaluation mode, every parameter random."""
    return redrawn(models.build(plan(preset, **sizes)))


def reads(of: spec.Model, batch: int = 2, length: int = 7, seed: int = 1) -> tuple[Tensor, ...]:
    """What a model of this spec reads."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(of, spec.Paired | spec.Seq2Seq):
        both = (torch.randint(0, VOCAB, (batch, size), generator=generator) for size in (length, length - 2))
        return tuple(both)
    if isinstance(of.input, spec.Patches):
        side = of.input.image
        return (torch.randn(batch, 3, side, side, generator=generator, dtype=torch.float64),)
    return (torch.randint(0, VOCAB, (batch, length), generator=generator),)
