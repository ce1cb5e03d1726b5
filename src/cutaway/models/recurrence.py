"""The recurrent language model (Mikolov et al. 2010), of LSTM layers as in Zaremba et al. 2014, or of GRUs.

B batch   L position   D width   V vocabulary
"""

from torch import Tensor

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.nn import heads
from cutaway.nn.cache import State
from cutaway.nn.dropout import drop
from cutaway.nn.mask import places
from cutaway.nn.part import computes, part
from cutaway.nn.recurrent import Layers, Running, make_layers, needed
from cutaway.tap import Tap, off, standing


@computes(spec.Recurrence)
class Recurrence(Layers):
    """Recurrent layers with an input in front and a head over the vocabulary behind."""

    sees = "past"

    def __init__(self, plan: spec.Recurrence, width: int):
        super().__init__()
        self.plan, self.dropout = plan, plan.dropout
        self.input = part(plan.input, width)
        self.layers = make_layers(plan.cell, plan.layers, width, width, "forward")
        self.head = part(plan.head, width)
        if not isinstance(self.head, heads.NextToken) or not isinstance(plan.input, spec.Tokens):
            raise ConfigError("Recurrence: the head is NextToken and the input is Tokens")
        self.head.connect(plan.input.vocab)

    @property
    def vocab_matrix(self) -> Tensor:
        """The matrix (V, D) the head multiplies with."""
        return self.head.matrix(self.input.token.weight)

    def features(
        self,
        tokens_BL: Tensor,
        *,
        padding_BL: Tensor | None = None,
        state: State | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """Token ids -> the last vectors (B, L, D). `padding_BL` is True where a token is real.

        With a state, which moves on by L, what is padding is known from it.
        """
        tap = standing(self, tap)
        assert state is None or isinstance(state, Running)
        L, device = tokens_BL.size(1), tokens_BL.device
        if state is None:
            state, positions, padding_BL = Running(), places(L, padding_BL, device), needed(padding_BL)
        else:
            tap = tap.starting(state.length)
            positions = state.positions(L, device)
            known = state.padding(L, device)
            padding_BL = None if known is None else known[:, state.length :]
        last = state.length + L - 1
        x_BLD = self.input(tokens_BL, positions=positions, last=last, tap=tap.at("input"))
        x_BLD = self.run(x_BLD, state, padding_BL=padding_BL, tap=tap)
        return drop(x_BLD, self.dropout, self.training)

    def forward(
        self,
        tokens_BL: Tensor,
        *,
        padding_BL: Tensor | None = None,
        state: State | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """Logits (B, L, V). Taps input.*, layers.N.out, logits."""
        tap = standing(self, tap)
        x_BLD = self.features(tokens_BL, padding_BL=padding_BL, state=state, tap=tap)
        return tap("logits", self.head(x_BLD, self.input.token.weight, tap.at("head")))

    def start(self, start_B: Tensor | None = None) -> Running:
        """The state in front of the first token; `start_B` counts the padding in front of each row."""
        return Running(start_B)

    def step(self, tokens_BL: Tensor, state: State, tap: Tap = off) -> Tensor:
        """Feed L new tokens; the logits (B, L, V) after each. `state` moves on by L."""
        return self(tokens_BL, state=state, tap=tap)

    def read(self, tokens_BL: Tensor, state: State, tap: Tap = off) -> Tensor:
        """Feed L tokens; the logits (B, 1, V) behind the last of them alone. `state` moves on by L."""
        tap = standing(self, tap)
        x_BLD = self.features(tokens_BL, state=state, tap=tap)
        tap = tap.starting(state.length - 1)
        return tap("logits", self.head(x_BLD[:, -1:], self.input.token.weight, tap.at("head")))
