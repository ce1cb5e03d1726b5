"""Blocks in depth, and what they share in one forward pass: mask, rotation, bias.

B batch   L position   M memory position   D width
"""

from collections.abc import Sequence
from typing import Any

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
        padding: Tensor | None = None,
        memory_padding_BM: Tensor | None = None,
        positions: Tensor | None = None,
        state: State | None = None,
        depths: Sequence[int] | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D).

        `padding` (B, cached positions and L) is True where a position is real, `memory_padding_BM` likewise
        for the memory; `positions` is (B or 1, L). `depths` says which blocks run, None runs all.
        Taps bias, blocks.N.*, final_norm.
        """
        L, device = x_BLD.size(1), x_BLD.device
        M = L if state is None else state.length + L
        if positions is None:
            positions = torch.arange(M - L, M, device=device)[None]
        bias = None
        if self.bias is not None:
            places = torch.arange(M, device=device)
            bias = tap("bias", self.bias(places[M - L :], places, self.sees, x_BLD.dtype))
        masks: dict[int | None, Mask] = {}
        rotations: dict[tuple, Rotation] = {}
        memory_mask = None
        if memory_BMD is not None:
            memory_mask = settle("all", L, memory_BMD.size(1), padding_BM=memory_padding_BM, device=device)
        for depth in range(self.layers) if depths is None else depths:
            block = self.blocks[depth % len(self.blocks)]
            mixer: Any = block.mixer
            window, rotary = getattr(mixer, "window", None), getattr(mixer, "rotary", None)
            if window not in masks:
                masks[window] = settle(
                    self.sees, L, M, window=window, padding_BM=padding, bias=bias, device=device
                )
            turn = (rotary, mixer.head_width) if rotary is not None else None
            if turn is not None and turn not in rotations:
                rotations[turn] = rotation(*turn, positions, x_BLD.dtype)
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
