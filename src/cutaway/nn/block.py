"""One layer: mixing between positions, then a feed-forward at each, around a residual stream.

The orders are those of the literature: post (Vaswani et al. 2017; algorithms 8 and 9 of Phuong & Hutter), pre
(GPT-2; algorithm 10), sandwich (Gemma 2), parallel (GPT-NeoX).

B batch   L position   M memory position   D width
"""

from typing import Any

from torch import Tensor, nn

from cutaway import spec
from cutaway.nn.cache import Cache
from cutaway.nn.dropout import drop
from cutaway.nn.mask import Mask
from cutaway.nn.part import part
from cutaway.nn.position import Rotation
from cutaway.tap import Tap, off


class Block(nn.Module):
    """A sub-layer for the mixer, one for cross-attention where there is memory, one for the feed-forward.

    The mixer is a child called `attn` where it is attention and `mixer` otherwise.
    """

    def __init__(self, plan: spec.Block, width: int):
        super().__init__()
        self.order, self.dropout = plan.order, plan.dropout.residual
        self.mixer_name = "attn" if isinstance(plan.mixer, spec.Attention) else "mixer"
        self._modules[self.mixer_name] = part(plan.mixer, width)  # add_module finds the property and refuses
        self.cross = part(plan.cross, width) if plan.cross else None
        self.ffn = part(plan.ffn, width) if plan.ffn else None
        self.mixer_norm = part(plan.norm, width)
        self.cross_norm = part(plan.norm, width) if plan.cross else None
        self.ffn_norm = part(plan.norm, width) if plan.ffn else None
        after = plan.order == "sandwich"
        self.mixer_norm_after = part(plan.norm, width) if after else None
        self.cross_norm_after = part(plan.norm, width) if after and plan.cross else None
        self.ffn_norm_after = part(plan.norm, width) if after and plan.ffn else None
        for child in self.children():
            if "dropout" in vars(child):
                vars(child)["dropout"] = plan.dropout.hidden if child is self.ffn else plan.dropout.attention

    @property
    def mixer(self) -> Any:
        """What moves information between positions, under the name it has in taps and checkpoints."""
        return self._modules[self.mixer_name]

    def forward(
        self,
        x_BLD: Tensor,
        memory_BMD: Tensor | None = None,
        *,
        mask: Mask,
        memory_mask: Mask | None = None,
        rotation: Rotation | None = None,
        cache: Cache | None = None,
        memory_cache: Cache | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps in, mid, crossed (with cross-attention), out."""
        in_BLD = tap("in", x_BLD)
        normed_BLD = self.before(self.mixer_norm, in_BLD, tap.at("mixer_norm"))
        mixed_BLD = self.mixer(
            normed_BLD, mask=mask, rotation=rotation, cache=cache, tap=tap.at(self.mixer_name)
        )
        x_BLD = tap(
            "mid", self.join(in_BLD, mixed_BLD, self.mixer_norm, self.mixer_norm_after, tap, "mixer_norm")
        )
        if self.cross is not None and self.cross_norm is not None:
            normed_BLD = self.before(self.cross_norm, x_BLD, tap.at("cross_norm"))
            found_BLD = self.cross(
                normed_BLD, memory_BMD, mask=memory_mask, cache=memory_cache, tap=tap.at("cross")
            )
            x_BLD = self.join(x_BLD, found_BLD, self.cross_norm, self.cross_norm_after, tap, "cross_norm")
            x_BLD = tap("crossed", x_BLD)
        if self.ffn is not None and self.ffn_norm is not None:
            source_BLD = in_BLD if self.order == "parallel" else x_BLD
            made_BLD = self.ffn(self.before(self.ffn_norm, source_BLD, tap.at("ffn_norm")), tap.at("ffn"))
            x_BLD = self.join(x_BLD, made_BLD, self.ffn_norm, self.ffn_norm_after, tap, "ffn_norm")
        return tap("out", x_BLD)

    def before(self, norm: nn.Module, x_BLD: Tensor, tap: Tap) -> Tensor:
        """What a sub-layer reads."""
        return x_BLD if self.order == "post" else norm(x_BLD, tap)

    def join(
        self,
        x_BLD: Tensor,
        new_BLD: Tensor,
        norm: nn.Module,
        norm_after: nn.Module | None,
        tap: Tap,
        name: str,
    ) -> Tensor:
        """Add what a sub-layer found to the residual stream, with the norm where the order has it."""
        if norm_after is not None:
            new_BLD = norm_after(new_BLD, tap.at(f"{name}_after"))
        sum_BLD = x_BLD + drop(new_BLD, self.dropout, self.training)
        return norm(sum_BLD, tap.at(name)) if self.order == "post" else sum_BLD
