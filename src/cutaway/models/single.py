"""One stack with an input in front and a head behind: GPT (Algorithm 10 of Phuong & Hutter), BERT (9), ViT.

B batch   L position   M memory position   D width   V vocabulary   C class
"""

from torch import Tensor

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.models.decoding import check_decodes
from cutaway.nn import heads
from cutaway.nn.cache import State
from cutaway.nn.mask import places
from cutaway.nn.part import computes, part
from cutaway.nn.stack import Stack
from cutaway.tap import Tap, off, standing


@computes(spec.Single)
class Single(Stack):
    """An encoder where the stack sees all, a decoder where it sees the past."""

    def __init__(self, plan: spec.Single, width: int):
        super().__init__(plan.stack, width)
        self.plan = plan
        self.input = part(plan.input, width)
        self.head = part(plan.head, width)
        if isinstance(self.head, heads.NextToken):
            if not isinstance(plan.input, spec.Tokens):
                raise ConfigError(
                    "head NextToken needs an input of Tokens: their vocabulary is what it scores"
                )
            self.head.connect(plan.input.vocab)

    @property
    def vocab_matrix(self) -> Tensor:
        """The matrix (V, E) the next-token head multiplies with; ConfigError where the head is another."""
        if not isinstance(self.head, heads.NextToken):
            kind = type(self.plan.head).__name__
            raise ConfigError(f"this model has a head of {kind}: it scores no tokens")
        return self.head.matrix(self.input.token.weight)

    def features(
        self,
        tokens: Tensor,
        *,
        padding_BL: Tensor | None = None,
        segments_BL: Tensor | None = None,
        state: State | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """Tokens (B, L), or images (B, C, side, side), -> the last vectors (B, L, D).

        `padding_BL` is True where a token is real; positions count real tokens only.
        """
        tap = standing(self, tap)
        positions, padding = None, padding_BL
        if isinstance(self.plan.input, spec.Tokens):
            L, device = tokens.size(1), tokens.device
            if state is not None:
                tap = tap.starting(state.length)
                positions, padding = state.positions(L, device), state.padding(L, device)
                last = state.length + L - 1
            else:
                positions, last = places(L, padding_BL, device), L - 1
            x_BLD = self.input(
                tokens, positions=positions, last=last, segments_BL=segments_BL, tap=tap.at("input")
            )
        else:
            x_BLD = self.input(tokens, tap=tap.at("input"))
        x_BLD = self.run(x_BLD, padding=padding, positions=positions, state=state, tap=tap)
        if state is not None:
            state.length += x_BLD.size(1)
        return x_BLD

    def forward(
        self,
        tokens: Tensor,
        *,
        padding_BL: Tensor | None = None,
        segments_BL: Tensor | None = None,
        state: State | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """Logits (B, L, V), (B, C) from a classifying head, or, of a head `Vectors`, those (B, L, D).

        Taps as in `cutaway.models.sites`.
        """
        tap = standing(self, tap)
        x_BLD = self.features(tokens, padding_BL=padding_BL, segments_BL=segments_BL, state=state, tap=tap)
        if isinstance(self.head, heads.NextToken):
            return tap("logits", self.head(x_BLD, self.input.token.weight, tap.at("head")))
        if isinstance(self.head, heads.Vectors):
            return self.head(x_BLD, padding_BL, tap.at("head"))
        return tap("logits", self.head(x_BLD, padding_BL, tap.at("head")))

    def start(self, start_B: Tensor | None = None) -> State:
        """The state in front of the first token; `start_B` counts the padding in front of each row.

        Raises ConfigError for a model that cannot decode: see `check_decodes`.
        """
        check_decodes(self)
        return State(self.layers, start_B)

    def step(self, tokens_BL: Tensor, state: State, tap: Tap = off) -> Tensor:
        """Feed L new tokens; the logits (B, L, V) after each. `state` moves on by L."""
        return self(tokens_BL, state=state, tap=tap)

    def read(self, tokens_BL: Tensor, state: State, tap: Tap = off) -> Tensor:
        """Feed L tokens; the logits (B, 1, V) behind the last of them alone. `state` moves on by L."""
        tap = standing(self, tap)
        x_BLD = self.features(tokens_BL, state=state, tap=tap)
        tap = tap.starting(state.length - 1)
        return tap("logits", self.head(x_BLD[:, -1:], self.input.token.weight, tap.at("head")))
