"""Encoder-decoders without self-attention: recurrent (Sutskever et al. 2014, Cho et al. 2014, Bahdanau et al.
2014, Luong et al. 2015) and convolutional (Gehring et al. 2017).

B batch   L target position   M source position   D width   V vocabulary
"""

from torch import Tensor

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.models.pair import Pair
from cutaway.nn import convolution, heads, look  # noqa: F401 (they compute the records of a spec.Seq2Seq)
from cutaway.nn.cache import State
from cutaway.nn.mask import places
from cutaway.nn.part import computes, part
from cutaway.nn.recurrent import Reading
from cutaway.tap import Tap, off, standing


@computes(spec.Seq2Seq)
class Seq2Seq(Pair):
    """A reader and a writer; without `target` both sides share one input."""

    def __init__(self, plan: spec.Seq2Seq, width: int):
        super().__init__()
        self.plan = plan
        self.source = part(plan.source, width)
        self.target = part(plan.target, width) if plan.target else None
        self.encoder = part(plan.encoder, width)
        self.decoder = part(plan.decoder, width)
        self.decoder.connect(self.encoder.memory_width)
        self.head = part(plan.head, width)
        written = plan.target or plan.source
        if not isinstance(self.head, heads.NextToken) or not isinstance(written, spec.Tokens):
            raise ConfigError("Seq2Seq: the head is NextToken and the target's input is Tokens")
        self.head.connect(written.vocab)

    def encode(self, source_BM: Tensor, *, padding_BM: Tensor | None = None, tap: Tap = off) -> Reading:
        """What the reader makes of source ids. `padding_BM` is True where a token is real."""
        tap = standing(self, tap).at("encoder")
        positions = places(source_BM.size(1), padding_BM, source_BM.device)
        x_BMD = self.source(source_BM, positions=positions, last=source_BM.size(1) - 1, tap=tap.at("input"))
        return self.encoder(x_BMD, padding_BM=padding_BM, tap=tap)

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
        state = self.start(source_BM, padding_BM=source_padding_BM, tap=tap)
        return self.decode(target_BL, state, padding_BL=target_padding_BL, tap=tap)

    def decode(
        self, target_BL: Tensor, state: State, *, padding_BL: Tensor | None = None, tap: Tap = off
    ) -> Tensor:
        """Target ids -> (B, L, D). `state` moves on by L.

        `padding_BL` is True where a token is real; a convolutional writer wants none within a row. Raises
        ConfigError for a state that has padding at its end, as what recurrent layers hold there is of no use.
        """
        if state.ends_B is not None and not bool(state.ends_B.all()):
            raise ConfigError("the target so far ends in padding, and cannot go on: start again")
        state.ends_B = None if padding_BL is None else padding_BL[:, -1]
        tap = standing(self, tap).at("decoder")
        L, device = target_BL.size(1), target_BL.device
        positions = state.positions(L, device) if padding_BL is None else places(L, padding_BL, device)
        last = state.length + L - 1
        x_BLD = self.written(target_BL, positions=positions, last=last, tap=tap.at("input"))
        return self.decoder(x_BLD, state, padding_BL=padding_BL, tap=tap)

    def start(self, source_BM: Tensor, *, padding_BM: Tensor | None = None, tap: Tap = off) -> State:
        """Encode the source once; the state in front of the first target token."""
        return self.decoder.start(self.encode(source_BM, padding_BM=padding_BM, tap=tap))

    def step(self, tokens_BL: Tensor, state: State, tap: Tap = off) -> Tensor:
        """Feed L new target tokens; the logits (B, L, V) after each. `state` moves on by L."""
        tap = standing(self, tap).starting(state.length)
        x_BLD = self.decode(tokens_BL, state, tap=tap)
        return tap("logits", self.head(x_BLD, self.written.token.weight, tap.at("head")))
