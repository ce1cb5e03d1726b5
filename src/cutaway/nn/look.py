"""How a recurrent writer sees the source: from one vector, which was the bottleneck, to attention.

`LastState` is Sutskever et al. 2014, `Summary` Cho et al. 2014, `Additive` Bahdanau et al. 2014,
`Multiplicative` Luong et al. 2015 (global attention, without input feeding). Left out are Cho's and
Bahdanau's maxout in front of the vocabulary: the head is the same in all models, so that they compare.

A look drives the writer's layers: it says what they start from, what enters a step beside the token, and what
the head reads. A reader that reads both ways holds two states a layer, where the writer starts from one:
`Additive` takes the one that Bahdanau et al. take, the others have a `Bridge`.

B batch   L target position   M source position   D width   K width of the reader's vectors   H head, here one
F hidden units of a score   E width of what enters a step
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.nn.attend import normalise
from cutaway.nn.linear import Linear
from cutaway.nn.memory import Memory, gather
from cutaway.nn.part import computes
from cutaway.nn.recurrent import Held, Layers, Reading, Running
from cutaway.tap import Tap


class Start(NamedTuple):
    """What a writer's layers hold in front of the first token, and what they can look at."""

    held: list[Held]
    memory: Memory | None


class Bridge(nn.Module):
    """What the writer's layers start from, layer by layer, made of what the reader's hold at the end.

    Of a reader that reads forward it is just that, and nothing is learned. Of one that reads both ways a
    layer's state is tanh(W [ahead, back] + b), and the cell of an LSTM, which has no bounds, V [ahead, back]
    + d: what the forward direction holds at the last real token, and the backward one at the first.

    This is ours: the papers of the looks that have it read forward. Bahdanau et al. 2014 (A.2.2) take
    tanh(W back), as `Additive` does; where nothing else is seen of the source, ahead must not be lost.
    """

    def __init__(self, width: int, memory_width: int, writer: spec.RecurrentWriter):
        super().__init__()
        joined = writer.layers if memory_width == 2 * width else 0
        cells = joined if writer.cell == "lstm" else 0
        self.state = nn.ModuleList(Linear(2 * width, width) for _ in range(joined))
        self.cell = nn.ModuleList(Linear(2 * width, width) for _ in range(cells))

    def forward(self, held: list[Held]) -> list[Held]:
        """(1, B, D) each, of (1 or 2 directions, B, D)."""
        if not self.state:
            return held
        states = [layer(beside(parts[0])).tanh() for layer, parts in zip(self.state, held, strict=True)]
        if not self.cell:
            return [(state,) for state in states]
        cells = [layer(beside(parts[1])) for layer, parts in zip(self.cell, held, strict=True)]
        return list(zip(states, cells, strict=True))


def beside(both: Tensor) -> Tensor:
    """The states of two directions (2, B, D) -> (1, B, K), the forward one first."""
    return torch.cat(both.unbind(), -1)[None]


@computes(spec.LastState)
class LastState(nn.Module):
    """The writer's layers start from what the reader's hold at the end; nothing else is seen."""

    entering = 0

    def __init__(self, plan: spec.LastState, width: int):
        super().__init__()
        self.width = width

    def connect(self, memory_width: int, writer: spec.RecurrentWriter) -> None:
        """Make the bridge."""
        self.bridge = Bridge(self.width, memory_width, writer)

    def start(self, reading: Reading) -> Start:
        """What the bridge makes of what the reader's layers hold."""
        return Start(self.bridge(reading.held), None)

    def write(
        self, layers: Layers, x_BLD: Tensor, state: Running, padding_BL: Tensor | None, tap: Tap
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        return layers.run(x_BLD, state, padding_BL=padding_BL, tap=tap)


@computes(spec.Summary)
class Summary(nn.Module):
    """The same start, and what the uppermost layer starts from enters every step beside the token."""

    def __init__(self, plan: spec.Summary, width: int):
        super().__init__()
        self.entering = width

    def connect(self, memory_width: int, writer: spec.RecurrentWriter) -> None:
        """Make the bridge."""
        self.bridge = Bridge(self.entering, memory_width, writer)

    def start(self, reading: Reading) -> Start:
        """What the bridge makes of what the reader's layers hold; to look at, a memory of one place."""
        held = self.bridge(reading.held)
        last_B1D = held[-1][0].transpose(0, 1)
        return Start(held, Memory(last_B1D, last_B1D))

    def write(
        self, layers: Layers, x_BLD: Tensor, state: Running, padding_BL: Tensor | None, tap: Tap
    ) -> Tensor:
        """(B, L, D) -> (B, L, D)."""
        assert state.memory is not None
        summary_BLD = state.memory.values.expand_as(x_BLD)
        return layers.run(torch.cat([x_BLD, summary_BLD], -1), state, padding_BL=padding_BL, tap=tap)


@computes(spec.Multiplicative)
class Multiplicative(nn.Module):
    """The state behind a step looks: s h or s W h; the head reads tanh(W [found, s]).

    s h needs vectors of one width, as Luong et al. have them, whose reader reads forward. Those of one that
    reads both ways are twice as wide, and "dot" is refused: with a projection it would be "general".
    """

    entering = 0

    def __init__(self, plan: spec.Multiplicative, width: int):
        super().__init__()
        self.form, self.width = plan.form, width
        self.key: nn.Linear | None = None

    def connect(self, memory_width: int, writer: spec.RecurrentWriter) -> None:
        """Make the bridge, and the products with the reader's vectors."""
        self.bridge = Bridge(self.width, memory_width, writer)
        if self.form == "general":
            self.key = Linear(memory_width, self.width, bias=False)
        self.out = Linear(memory_width + self.width, self.width, bias=False)

    def start(self, reading: Reading) -> Start:
        """What the bridge makes of what the reader's layers hold; W h is the same at every step."""
        values = reading.memory.values
        keys = values if self.key is None else self.key(values)
        return Start(self.bridge(reading.held), reading.memory._replace(keys=keys))

    def write(
        self, layers: Layers, x_BLD: Tensor, state: Running, padding_BL: Tensor | None, tap: Tap
    ) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps look.scores, look.pattern, look.mix, look.out."""
        assert state.memory is not None
        y_BLD = layers.run(x_BLD, state, padding_BL=padding_BL, tap=tap)
        found_BLK = gather(y_BLD, state.memory, tap.at("look"))
        return tap("look.out", self.out(torch.cat([found_BLK, y_BLD], -1)).tanh())


@computes(spec.Additive)
class Additive(nn.Module):
    """The state in front of a step looks: v tanh(W s + U h). What is found enters the step, and with the
    token and the state behind it tanh(W [found, token, s]), which the head reads.

    The first state is tanh(W h) of the reader's uppermost layer, h being the last of a forward direction, and
    of one that reads backward that at the first token.
    """

    def __init__(self, plan: spec.Additive, width: int):
        super().__init__()
        self.width, self.hidden = width, plan.hidden or width
        self.entering = 0

    def connect(self, memory_width: int, writer: spec.RecurrentWriter) -> None:
        """Make what depends on the reader's vectors and on the writer's depth."""
        D, K, F = self.width, memory_width, self.hidden
        self.entering, self.cell = K, writer.cell
        self.first = nn.ModuleList(Linear(D, D) for _ in range(writer.layers))
        self.query = Linear(D, F)
        self.key = Linear(K, F, bias=False)
        self.score = Linear(F, 1, bias=False)
        self.out = Linear(K + 2 * D, D)

    def start(self, reading: Reading) -> Start:
        """A first state for each layer, a cell of zeros where it has one; U h is the same at every step."""
        last_BD = reading.held[-1][0][-1]
        states = [layer(last_BD).tanh()[None] for layer in self.first]
        held: list[Held] = [
            (state,) if self.cell == "gru" else (state, torch.zeros_like(state)) for state in states
        ]
        return Start(held, reading.memory._replace(keys=self.key(reading.memory.values)))

    def write(
        self, layers: Layers, x_BLD: Tensor, state: Running, padding_BL: Tensor | None, tap: Tap
    ) -> Tensor:
        """(B, L, D) -> (B, L, D). Taps look.scores, look.pattern, look.mix, look.out."""
        assert state.memory is not None
        L, found, states = x_BLD.size(1), [], []
        for place in range(L):
            inner = tap.during(place, L)
            here = slice(place, place + 1)
            found_B1K = self(state.held[-1][0].transpose(0, 1), state.memory, inner.at("look"))
            entering_B1E = torch.cat([x_BLD[:, here], found_B1K], -1)
            padding_B1 = None if padding_BL is None else padding_BL[:, here]
            states.append(layers.run(entering_B1E, state, padding_BL=padding_B1, tap=inner))
            found.append(found_B1K)
        tap.join()
        beside = torch.cat([torch.cat(found, 1), x_BLD, torch.cat(states, 1)], -1)
        return tap("look.out", self.out(beside).tanh())

    def forward(self, s_BLD: Tensor, memory: Memory, tap: Tap) -> Tensor:
        """What each state finds, (B, L, K); zero where there is nothing. Taps scores, pattern, mix."""
        hidden_BLMF = (self.query(s_BLD)[:, :, None] + memory.keys[:, None]).tanh()
        mask = memory.mask(s_BLD.size(1))
        scores_BHLM = self.score(hidden_BLMF).squeeze(-1)[:, None]
        if mask.allowed is not None:
            scores_BHLM = scores_BHLM.masked_fill(~mask.allowed, float("-inf"))
        pattern_BHLM = tap("pattern", normalise(tap("scores", scores_BHLM), mask))
        return tap("mix", pattern_BHLM @ memory.values[:, None])[:, 0]
