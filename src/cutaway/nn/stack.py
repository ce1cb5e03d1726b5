"""Blocks in depth, and what they share in one forward pass: mask, rotation, bias.

B batch   L position   M memory position   D width
"""

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.nn.block import Block
from cutaway.nn.cache import State
from cutaway.nn.mask import Mask, settle
from cutaway.nn.part import part
from cutaway.nn.position import Rotation, rotation
from cutaway.tap import Tap, off


class Stack(nn.Module):
    """`layers` blocks, an optional bias on every score, an optional norm at the end.

    `blocks` holds the blocks that own weights; depth d runs `blocks[d % len(blocks)]`.
    """

    def __init__(self, plan: spec.Stack, width: int):
        super().__init__()
        self.layers, self.sees = plan.layers, plan.sees
        plans = [plan.blocks[i % len(plan.blocks)] for i in range(plan.distinct or plan.layers)]
        self.blocks = nn.ModuleList(Block(p, width) for p in plans)
        heads = getattr(plan.blocks[0].mixer, "heads", 1)
        self.bias = part(plan.bias, heads) if plan.bias else None
        self.final_norm = part(plan.final_norm, width) if plan.final_norm else None

    def run(
        self,
        x_BLD: Tensor,
        memory_BMD: Tensor | None = None,
        *,
        padding_BM: Tensor | None = None,
        memory_padding_BM: Tensor | None = None,
        positions_BL: Tensor | None = None,
        state: State | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D); `padding_BM` is True where a position is real, memory included.

        Taps bias, blocks.N.*, final_norm.
        """
        L, device = x_BLD.size(1), x_BLD.device
        M = L if state is None else state.length + L
        if positions_BL is None:
            positions_BL = torch.arange(M - L, M, device=device)[None]
        bias_HLM = None
        if self.bias is not None:
            places_M = torch.arange(M, device=device)
            bias_HLM = tap("bias", self.bias(places_M[M - L :], places_M, self.sees))
        masks: dict[int | None, Mask] = {}
        rotations: dict[tuple, Rotation] = {}
        memory_mask = None
        if memory_BMD is not None:
            memory_mask = settle("all", L, memory_BMD.size(1), padding_BM=memory_padding_BM, device=device)
        for depth in range(self.layers):
            block = self.blocks[depth % len(self.blocks)]
            mixer = block.mixer
            window, rotary = getattr(mixer, "window", None), getattr(mixer, "rotary", None)
            if window not in masks:
                masks[window] = settle(
                    self.sees, L, M, window=window, padding_BM=padding_BM, bias_HLM=bias_HLM, device=device
                )
            turn = (rotary, mixer.head_width) if rotary is not None else None
            if turn is not None and turn not in rotations:
                rotations[turn] = rotation(*turn, positions_BL, x_BLD.dtype)
            inner = tap.inside(f"blocks.{depth}")
            x_BLD = block(
                x_BLD,
                memory_BMD,
                mask=masks[window],
                memory_mask=memory_mask,
                rotation=rotations[turn] if turn is not None else None,
                cache=state.layers[depth] if state is not None else None,
                memory_cache=state.cross[depth] if state is not None else None,
                tap=inner,
            )
            tap.gather(f"blocks.{depth}", inner)
        if self.final_norm is not None:
            x_BLD = self.final_norm(x_BLD, tap.at("final_norm"))
        return x_BLD
