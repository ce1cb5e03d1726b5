"""What every encoder-decoder has in common: how it is called, and how it decodes token by token.

B batch   L target position   M source position   D width   E encoder's vectors   V vocabulary
"""

from typing import Any

from torch import Tensor, nn

from cutaway.tap import Tap, off, standing


class Pair(nn.Module):
    """An encoder and a decoder that looks at what it made.

    A subclass makes `source`, `target` (None where both sides share one input) and `head`, and defines
    `encode`, `decode`, `start` and `step`.
    """

    source: Any
    target: Any
    head: Any

    @property
    def written(self) -> Any:
        """The input of the decoder."""
        return self.source if self.target is None else self.target

    @property
    def vocab_matrix(self) -> Tensor:
        """The matrix (V, E) the head multiplies with."""
        return self.head.matrix(self.written.token.weight)

    def check_decodes(self) -> None:
        """Raises ConfigError where the decoder cannot write token by token."""

    def features(
        self,
        source_BM: Tensor,
        target_BL: Tensor,
        *,
        source_padding_BM: Tensor | None = None,
        target_padding_BL: Tensor | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """The decoder's last vectors (B, L, D); the paddings are True where a token is real."""
        raise NotImplementedError

    def forward(
        self,
        source_BM: Tensor,
        target_BL: Tensor,
        *,
        source_padding_BM: Tensor | None = None,
        target_padding_BL: Tensor | None = None,
        tap: Tap = off,
    ) -> Tensor:
        """Logits (B, L, V). Taps under encoder., decoder., and logits."""
        tap = standing(self, tap)
        x_BLD = self.features(
            source_BM,
            target_BL,
            source_padding_BM=source_padding_BM,
            target_padding_BL=target_padding_BL,
            tap=tap,
        )
        return tap("logits", self.head(x_BLD, self.written.token.weight, tap.at("head")))

    def start(self, source_BM: Tensor, *, padding_BM: Tensor | None = None, tap: Tap = off) -> Any:
        """Encode the source once; the state in front of the first target token."""
        raise NotImplementedError

    def step(self, tokens_BL: Tensor, state: Any, tap: Tap = off) -> Tensor:
        """Feed L new target tokens; the logits (B, L, V) after each. `state` moves on by L."""
        raise NotImplementedError
