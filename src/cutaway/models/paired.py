"""Encoder and decoder: the 2017 transformer (Phuong & Hutter's Algorithm 8), T5, Marian.

B batch   L target position   M source position   D width   V vocabulary
"""

from torch import Tensor

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.models.decoding import check_decodes
from cutaway.models.pair import Pair
from cutaway.nn import heads
from cutaway.nn.cache import State
from cutaway.nn.mask import places
from cutaway.nn.part import computes, part
from cutaway.nn.stack import Stack
from cutaway.tap import Tap, off, standing


@computes(spec.Paired)
class Paired(Pair):
    """Encoder and decoder; without `target` both sides share one input."""

    def __init__(self, plan: spec.Paired, width: int):
        super().__init__()
        self.plan = plan
        if plan.encoder.sees != "all" or plan.decoder.sees != "past":
            raise ConfigError("Paired: the encoder sees 'all', the decoder sees 'past'")
        self.source = part(plan.source, width)
        self.target = part(plan.target, width) if plan.target else None
        self.encoder = Stack(plan.encoder, width)
        self.decoder = Stack(plan.decoder, width)
        self.head = part(plan.head, width)
        written = plan.target or plan.source
        if not isinstance(self.head, heads.NextToken) or not isinstance(written, spec.Tokens):
            raise ConfigError("Paired: the head is NextToken and the target's input is Tokens")
        self.head.connect(written.vocab)

    def check_decodes(self) -> None:
        """Raises ConfigError for a decoder that cannot write token by token."""
        check_decodes(self.decoder)

    def encode(self, source_BM: Tensor, *, padding_BM: Tensor | None = None, tap: Tap = off) -> Tensor:
        """Source ids -> (B, M, D). `padding_BM` is True where a token is real."""
        tap = standing(self, tap).at("encoder")
        positions = places(source_BM.size(1), padding_BM, source_BM.device)
        x_BMD = self.source(source_BM, positions=positions, last=source_BM.size(1) - 1, tap=tap.at("input"))
        return self.encoder.run(x_BMD, padding=padding_BM, positions=positions, tap=tap)

    def features(
        self,
        source_BM: Tensor,
        target_BL: Tensor,
        *,
        source_padding_BM: Tensor | None = None,
        target_padding_BL: Tensor | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """The decoder's last vectors (B, L, D)."""
        tap = standing(self, tap)
        memory_BMD = self.encode(source_BM, padding_BM=source_padding_BM, tap=tap)
        return self.decode(
            target_BL, memory_BMD, padding_BL=target_padding_BL, memory_padding_BM=source_padding_BM, tap=tap
        )

    def decode(
        self,
        target_BL: Tensor,
        memory_BMD: Tensor,
        *,
        padding_BL: Tensor | None = None,
        memory_padding_BM: Tensor | None = None,
        state: State | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """Target ids and the encoder's vectors -> (B, L, D)."""
        tap = standing(self, tap).at("decoder")
        L, device = target_BL.size(1), target_BL.device
        if state is None:
            positions, last = places(L, padding_BL, device), L - 1
        else:
            tap = tap.starting(state.length)
            positions, last = state.positions(L, device), state.length + L - 1
        x_BLD = self.written(target_BL, positions=positions, last=last, tap=tap.at("input"))
        return self.decoder.run(
            x_BLD,
            memory_BMD,
            padding=padding_BL,
            memory_padding_BM=memory_padding_BM,
            positions=positions,
            state=state,
            tap=tap,
        )

    def start(self, source_BM: Tensor, *, padding_BM: Tensor | None = None, tap: Tap = off) -> State:
        """Encode the source once; the state in front of the first target token.

        Raises ConfigError for a decoder that cannot decode: see `check_decodes`.
        """
        self.check_decodes()
        state = State(self.decoder.layers)
        state.memory_BMD = self.encode(source_BM, padding_BM=padding_BM, tap=tap)
        state.memory_padding_BM = padding_BM
        return state

    def step(self, tokens_BL: Tensor, state: State, tap: Tap = off) -> Tensor:
        """Feed L new target tokens; the logits (B, L, V) after each. `state` moves on by L."""
        assert state.memory_BMD is not None
        tap = standing(self, tap).starting(state.length)
        x_BLD = self.decode(
            tokens_BL, state.memory_BMD, memory_padding_BM=state.memory_padding_BM, state=state, tap=tap
        )
        state.length += tokens_BL.size(1)
        return tap("logits", self.head(x_BLD, self.written.token.weight, tap.at("head")))
