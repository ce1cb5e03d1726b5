"""The prior art of the transformer, as data: recurrent and convolutional sequence models.

A `Recurrence` is a language model whose output at one step is its input at the next. A `Seq2Seq` is an
encoder-decoder made of a `Reader` and a `Writer`; a recurrent writer says by a `Look` how it sees the source:
from one vector, which was the bottleneck, to attention, which opened it.
"""

from dataclasses import dataclass, field
from typing import Literal

from cutaway.spec.model import Head, Init, Input, Model

Cell = Literal["lstm", "gru"]


class Reader:
    """Slot: what turns a source into the vectors a writer looks at."""


class Writer:
    """Slot: what writes a target, one token after the other, looking at what a reader made."""


class Look:
    """Slot: how a recurrent writer sees the source."""


@dataclass(frozen=True)
class LastState(Look):
    """Sutskever et al. 2014: the reader's last state is the writer's first, and nothing else is seen."""


@dataclass(frozen=True)
class Summary(Look):
    """Cho et al. 2014: the reader's last state is the writer's first, and is read again at every step."""


@dataclass(frozen=True)
class Additive(Look):
    """Bahdanau et al. 2014: v tanh(W s + U h) of the state before a step; what is found enters the step."""

    hidden: int | None = None


@dataclass(frozen=True)
class Multiplicative(Look):
    """Luong et al. 2015: s h ("dot") or s W h ("general") of the state after a step; no input feeding.

    "dot" needs a reader that reads forward, as theirs does: read both ways, h is twice as wide as s.
    """

    form: Literal["dot", "general"] = "general"


@dataclass(frozen=True)
class Recurrent(Reader):
    """Recurrent layers that read forward, or `both` ways (Schuster & Paliwal 1997).

    Read both ways, a position's vector is those of the two directions side by side: twice the width. What a
    writer starts from is then made of what both directions end with; with `Additive`, of the backward one.
    """

    layers: int
    cell: Cell = "lstm"
    reads: Literal["forward", "both"] = "forward"
    dropout: float = 0.0


@dataclass(frozen=True)
class RecurrentWriter(Writer):
    """Recurrent layers that write; `dropout` is of what goes from one layer to the next and to the head."""

    layers: int
    look: Look
    cell: Cell = "lstm"
    dropout: float = 0.0


@dataclass(frozen=True)
class Convolutional(Reader):
    """Gehring et al. 2017: layers of gated convolutions over `kernel` positions, each around a residual."""

    layers: int
    kernel: int = 3
    dropout: float = 0.0


@dataclass(frozen=True)
class ConvolutionalWriter(Writer):
    """Gehring et al. 2017: the same over what was written so far, every layer with attention of its own."""

    layers: int
    kernel: int = 3
    dropout: float = 0.0


@dataclass(frozen=True)
class Recurrence(Model):
    """A recurrent language model: its output is its next input (Mikolov et al. 2010)."""

    width: int
    input: Input
    layers: int
    head: Head
    cell: Cell = "lstm"
    dropout: float = 0.0
    init: Init = field(default_factory=Init)


@dataclass(frozen=True)
class Seq2Seq(Model):
    """An encoder-decoder without self-attention; without `target` both sides share the input `source`."""

    width: int
    source: Input
    encoder: Reader
    decoder: Writer
    head: Head
    target: Input | None = None
    init: Init = field(default_factory=Init)
