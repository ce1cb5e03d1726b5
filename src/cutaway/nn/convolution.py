"""Convolutional sequence to sequence (Gehring et al. 2017): gated convolutions around residuals, and
attention in every layer of the writer.

Every sum of two is scaled by sqrt(1/2), what a sum of m is averaged from by sqrt(m), so that variances stay.
Width, embedding and channels are one number, so the paper's maps between them are left out, but for that of
the query; so are its weight normalisation and its scaling of the reader's gradient.

B batch   L position   M source position   D width
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway import spec
from cutaway.nn.cache import State
from cutaway.nn.dropout import drop
from cutaway.nn.linear import Linear
from cutaway.nn.memory import Memory, gather
from cutaway.nn.part import computes
from cutaway.nn.recurrent import Reading
from cutaway.tap import Tap, off

HALF = 0.5**0.5


class History:
    """What the layers of one depth have read so far, piece by piece: a convolution looks back at the last."""

    def __init__(self) -> None:
        self.pieces: list[Tensor] = []

    def extend(self, x_BLD: Tensor, back: int) -> Tensor:
        """Append; the new positions with `back` ones in front of them, zero where the text begins."""
        self.pieces.append(x_BLD)
        want = back + x_BLD.size(1)
        seen = torch.cat(self.pieces[-back - 1 :], 1)[:, -want:]  # a piece has a position or more
        return F.pad(seen, (0, 0, want - seen.size(1), 0))

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        self.pieces = [piece[rows] for piece in self.pieces]

    def truncate(self, length: int) -> None:
        """Forget everything from position `length` on."""
        self.pieces = [torch.cat(self.pieces, 1)[:, :length]] if self.pieces and length else []


class Written(State):
    """What a convolutional writer remembers: what each layer has read, and the source."""

    def __init__(self, layers: int, memory: Memory):
        super().__init__(0)
        self.memory = memory
        self.read = [History() for _ in range(layers)]

    def select(self, rows: Tensor) -> None:
        """Keep these rows of the batch, in this order."""
        super().select(rows)
        self.memory = self.memory.select(rows)
        for history in self.read:
            history.select(rows)

    def truncate(self, length: int) -> None:
        """Go back to `length` written places."""
        if length < self.length:
            for history in self.read:
                history.truncate(length)
        super().truncate(length)


class Convolution(nn.Conv1d):
    """A convolution whose output a gate halves: its weights start twice as large, as in the paper."""

    gain = 2.0

    def __init__(self, width: int, kernel: int):
        super().__init__(width, 2 * width, kernel)

    def gated(self, x_BLD: Tensor) -> Tensor:
        """(B, L and the positions around it, D) -> (B, L, D): the first half, gated by the second."""
        return F.glu(self(x_BLD.mT).mT, dim=-1)


class ReaderLayer(nn.Module):
    """A gated convolution over the positions on both sides."""

    def __init__(self, plan: spec.Convolutional, width: int):
        super().__init__()
        self.dropout, self.around = plan.dropout, plan.kernel // 2
        self.convolution = Convolution(width, plan.kernel)

    def forward(self, x_BMD: Tensor, padding_BM: Tensor | None, tap: Tap) -> Tensor:
        """(B, M, D) -> (B, M, D). Tap out."""
        read_BMD = clear(drop(x_BMD, self.dropout, self.training), padding_BM)
        made_BMD = self.convolution.gated(F.pad(read_BMD, (0, 0, self.around, self.around)))
        return tap("out", (x_BMD + made_BMD) * HALF)


@computes(spec.Convolutional)
class ConvolutionalReader(nn.Module):
    """Reads a source: the last layer's vectors are keys, and with the embedding added values."""

    def __init__(self, plan: spec.Convolutional, width: int):
        super().__init__()
        self.memory_width = width
        self.layers = nn.ModuleList(ReaderLayer(plan, width) for _ in range(plan.layers))

    def forward(self, x_BMD: Tensor, *, padding_BM: Tensor | None = None, tap: Tap = off) -> Reading:
        """(B, M, D) -> a `Reading`. Taps layers.N.out."""
        z_BMD = x_BMD
        for depth, layer in enumerate(self.layers):
            z_BMD = layer(z_BMD, padding_BM, tap.at(f"layers.{depth}"))
        return Reading(Memory(z_BMD, (z_BMD + x_BMD) * HALF, padding_BM), [])


class ConvolutionalLook(nn.Module):
    """One head of dot products; the query is the state, projected, with the token's vector added."""

    def __init__(self, width: int):
        super().__init__()
        self.query = Linear(width, width)

    def forward(self, x_BLD: Tensor, token_BLD: Tensor, memory: Memory, tap: Tap) -> Tensor:
        """(B, L, D) -> (B, L, D), zero where there is nothing to be found. Taps scores, pattern, mix."""
        found_BLD = gather((self.query(x_BLD) + token_BLD) * HALF, memory, tap)
        if memory.padding is None:
            return found_BLD * memory.values.size(1) ** 0.5
        return found_BLD * memory.padding.sum(1)[:, None, None].to(found_BLD.dtype).sqrt()


class WriterLayer(nn.Module):
    """A gated convolution over the positions behind, and what it looks for in the source."""

    def __init__(self, plan: spec.ConvolutionalWriter, width: int):
        super().__init__()
        self.dropout, self.behind = plan.dropout, plan.kernel - 1
        self.convolution = Convolution(width, plan.kernel)
        self.look = ConvolutionalLook(width)

    def forward(
        self,
        x_BLD: Tensor,
        token_BLD: Tensor,
        memory: Memory,
        history: History,
        padding_BL: Tensor | None,
        tap: Tap,
    ) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps look.*, out."""
        read_BLD = clear(drop(x_BLD, self.dropout, self.training), padding_BL)
        made_BLD = self.convolution.gated(history.extend(read_BLD, self.behind))
        found_BLD = self.look(made_BLD, token_BLD, memory, tap.at("look"))
        return tap("out", (x_BLD + (made_BLD + found_BLD) * HALF) * HALF)


@computes(spec.ConvolutionalWriter)
class ConvolutionalWriter(nn.Module):
    """Writes a target."""

    def __init__(self, plan: spec.ConvolutionalWriter, width: int):
        super().__init__()
        self.dropout = plan.dropout
        self.layers = nn.ModuleList(WriterLayer(plan, width) for _ in range(plan.layers))

    def connect(self, memory_width: int) -> None:
        """Nothing depends on the reader but the width, which is the model's."""

    def start(self, reading: Reading) -> Written:
        """The state in front of the first token."""
        return Written(len(self.layers), reading.memory)

    def forward(
        self, x_BLD: Tensor, state: Written, *, padding_BL: Tensor | None = None, tap: Tap = off
    ) -> Tensor:
        """(B, L, D) -> (B, L, D); `state` moves on by L. Taps layers.N.look.*, layers.N.out."""
        token_BLD = x_BLD
        for depth, layer in enumerate(self.layers):
            inner = tap.at(f"layers.{depth}")
            x_BLD = layer(x_BLD, token_BLD, state.memory, state.read[depth], padding_BL, inner)
        state.length += x_BLD.size(1)
        return drop(x_BLD, self.dropout, self.training)


def clear(x_BLD: Tensor, padding_BL: Tensor | None) -> Tensor:
    """Zero at padding, so that a convolution reads there what it reads beyond the border."""
    return x_BLD if padding_BL is None else x_BLD.masked_fill(~padding_BL[..., None], 0.0)
