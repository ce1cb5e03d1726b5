"""Recurrent layers over a padded batch: LSTM (Hochreiter & Schmidhuber 1997, with the forget gate of Gers et
al. 2000) and GRU (Cho et al. 2014), forward or both ways (Schuster & Paliwal 1997).

The recurrence is torch's kernel. Its GRU resets behind the product with the state, r * (U h), where Cho et
al. write U (r * h). A source's padding is stepped over, wherever it stands: the last state is that behind
the last real token, and a backward direction begins there. A target's is, unless all of it stands at its end.

B batch   L position   M source position   D width   E width of what a layer reads   K width of what it gives
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.nn.cache import State
from cutaway.nn.dropout import drop
from cutaway.nn.mask import places
from cutaway.nn.memory import Memory
from cutaway.nn.part import computes, part
from cutaway.spec.recurrent import Cell
from cutaway.tap import Tap, off

CELLS: dict[Cell, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
Held = tuple[Tensor, ...]  # of one layer, (directions, B, D) each: the state, and in an LSTM the cell


class Running(State):
    """What recurrent layers remember: what each holds behind the last token, and what there is to look at.

    `held` is empty in front of the first token of a text: all zero.
    """

    def __init__(self, start_B: Tensor | None = None):
        super().__init__(0, start_B)
        self.held: list[Held] = []
        self.memory: Memory | None = None

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        super().select(rows)
        self.held = [tuple(kept[:, rows] for kept in held) for held in self.held]
        self.memory = None if self.memory is None else self.memory.select(rows)

    def truncate(self, length: int) -> None:
        """Raises ConfigError for every length but those that forget nothing."""
        if length < self.length:
            raise ConfigError(
                f"a recurrent state cannot go back from position {self.length} to {length}: what it held is "
                "gone; start again"
            )


class Reading(NamedTuple):
    """What a reader makes of a source: vectors to look at, and what its recurrent layers hold at the end."""

    memory: Memory
    held: list[Held]


def make_layers(cell: Cell, layers: int, first: int, width: int, reads: str) -> nn.ModuleList:
    """Recurrent layers in depth; the lowest reads `first` numbers a position."""
    both = reads == "both"
    above = width * (2 if both else 1)
    return nn.ModuleList(
        CELLS[cell](above if depth else first, width, batch_first=True, bidirectional=both)
        for depth in range(layers)
    )


class Layers(nn.Module):
    """Recurrent layers in depth, with dropout between them."""

    layers: nn.ModuleList
    dropout: float

    def run(
        self, x_BLE: Tensor, state: Running, *, padding_BL: Tensor | None = None, tap: Tap = off
    ) -> Tensor:
        """(B, L, E) -> (B, L, K), zero at the padding given; `state` moves on by L. Taps layers.N.out."""
        held: list[Held] = []
        for depth, layer in enumerate(self.layers):
            x_BLE = drop(x_BLE, self.dropout if depth else 0.0, self.training)
            before = state.held[depth] if state.held else None
            y_BLK, after = read(layer, x_BLE, before, padding_BL)
            x_BLE = tap(f"layers.{depth}.out", y_BLK)
            held.append(after)
        state.held = held
        state.length += x_BLE.size(1)
        return x_BLE


def read(
    layer: nn.Module, x_BLE: Tensor, before: Held | None, padding_BL: Tensor | None = None
) -> tuple[Tensor, Held]:
    """One layer from what it held `before` -> (B, L, K), and what it holds behind each row's last real token.

    `padding_BL` is True where a token is real.
    """
    if padding_BL is None or bool(padding_BL.all()):
        y_BLK, after = layer(x_BLE, unwrap(before))
        return y_BLK, wrap(after)
    order_BL = padding_BL.logical_not().byte().argsort(dim=1, stable=True)  # real ones first, as they come
    real_BLE = x_BLE.gather(1, order_BL[..., None].expand_as(x_BLE))
    lengths_B = padding_BL.sum(1)
    packed = pack_padded_sequence(
        real_BLE, lengths_B.clamp(min=1).cpu(), batch_first=True, enforce_sorted=False
    )
    packed_out, after = layer(packed, unwrap(before))
    y_BLK, _ = pad_packed_sequence(packed_out, batch_first=True, total_length=x_BLE.size(1))
    place_BL = places(x_BLE.size(1), padding_BL, x_BLE.device)
    y_BLK = y_BLK.gather(1, place_BL[..., None].expand_as(y_BLK)).masked_fill(~padding_BL[..., None], 0.0)
    some_B1 = (lengths_B > 0)[:, None]  # a row without a real token was given one, which must not count
    old = tuple(torch.zeros_like(kept) for kept in wrap(after)) if before is None else before
    return y_BLK, tuple(torch.where(some_B1, new, kept) for new, kept in zip(wrap(after), old, strict=True))


def wrap(held: Tensor | tuple[Tensor, Tensor]) -> Held:
    """What torch calls a layer's state, as we keep it: of a GRU it is no tuple."""
    return (held,) if isinstance(held, Tensor) else held


def unwrap(held: Held | None) -> Tensor | Held | None:
    """The reverse of `wrap`."""
    return held[0] if held is not None and len(held) == 1 else held


def needed(padding_BL: Tensor | None) -> Tensor | None:
    """The padding, or None where all of it stands behind the real tokens: what a forward direction gives for
    these does not depend on it.
    """
    if padding_BL is None or not bool((padding_BL[:, 1:] & ~padding_BL[:, :-1]).any()):
        return None
    return padding_BL


@computes(spec.Recurrent)
class RecurrentReader(Layers):
    """Reads a source; read both ways, a position's vector is those of the two directions side by side."""

    def __init__(self, plan: spec.Recurrent, width: int):
        super().__init__()
        self.dropout = plan.dropout
        self.memory_width = width * (2 if plan.reads == "both" else 1)
        self.layers = make_layers(plan.cell, plan.layers, width, width, plan.reads)

    def forward(self, x_BMD: Tensor, *, padding_BM: Tensor | None = None, tap: Tap = off) -> Reading:
        """(B, M, D) -> a `Reading`. Taps layers.N.out."""
        state = Running()
        y_BMK = self.run(x_BMD, state, padding_BL=padding_BM, tap=tap)
        return Reading(Memory(y_BMK, y_BMK, padding_BM), state.held)


@computes(spec.RecurrentWriter)
class RecurrentWriter(Layers):
    """Writes a target; its look says how the layers see the source. See `cutaway.nn.look`."""

    def __init__(self, plan: spec.RecurrentWriter, width: int):
        super().__init__()
        self.plan, self.width, self.dropout = plan, width, plan.dropout
        self.look = part(plan.look, width)

    def connect(self, memory_width: int) -> None:
        """Make what depends on the width of the reader's vectors."""
        self.look.connect(memory_width, self.plan)
        first = self.width + self.look.entering
        self.layers = make_layers(self.plan.cell, self.plan.layers, first, self.width, "forward")

    def start(self, reading: Reading) -> Running:
        """The state in front of the first token."""
        state = Running()
        state.held, state.memory = self.look.start(reading)
        return state

    def forward(
        self, x_BLD: Tensor, state: Running, *, padding_BL: Tensor | None = None, tap: Tap = off
    ) -> Tensor:
        """(B, L, D) -> (B, L, D); `state` moves on by L. Taps layers.N.out, look.*."""
        y_BLD = self.look.write(self, x_BLD, state, needed(padding_BL), tap)
        return drop(y_BLD, self.dropout, self.training)
