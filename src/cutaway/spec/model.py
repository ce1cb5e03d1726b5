"""What a model is, as data: a tree of small frozen records, without torch.

The spec holds mathematics only. Device, precision, kernel and compilation belong to `spec.run`: the same spec
is the same function on any machine. Each alternative is its own record, so a parameter exists only where it
means something. The empty classes (`Norm`, `Mixer`, ...) are the slots: a slot takes any record derived from
it, also one defined outside this package (see `cutaway.nn.register`). `docs/families.md` says which published
family needs what.
"""

from dataclasses import dataclass, field
from typing import Literal

Activation = Literal["relu", "relu_squared", "gelu", "gelu_tanh", "silu", "tanh"]


class Norm:
    """Slot: a normalisation of the last axis."""


class FeedForward:
    """Slot: a transformation of each position on its own."""


class Mixer:
    """Slot: what moves information between positions."""


class Position:
    """Slot: what is added to the input so that order matters."""


class Stretch:
    """Slot: what makes a rotation slower, so that it reaches beyond the length it was trained with."""


class Bias:
    """Slot: what a stack adds to every attention score."""


class Input:
    """Slot: what turns data into vectors."""


class Head:
    """Slot: what turns the last vectors into predictions."""


class Model:
    """Slot: the root of a spec."""


@dataclass(frozen=True)
class LayerNorm(Norm):
    """Ba et al. 2016: mean 0 and population variance 1, then gain and (with `bias`) shift."""

    eps: float = 1e-5
    bias: bool = True


@dataclass(frozen=True)
class RMSNorm(Norm):
    """Zhang & Sennrich 2019; the gain is `offset + w` (offset 1 in Gemma)."""

    eps: float = 1e-6
    offset: float = 0.0


@dataclass(frozen=True)
class MLP(FeedForward):
    """down(act(up(x))), Vaswani et al. 2017."""

    hidden: int
    act: Activation = "gelu"
    bias: bool = True


@dataclass(frozen=True)
class GatedMLP(FeedForward):
    """down(act(gate(x)) * up(x)), Shazeer 2020."""

    hidden: int
    act: Activation = "silu"
    bias: bool = False


@dataclass(frozen=True)
class Interpolated(Stretch):
    """Chen et al. 2023: every pair turns `factor` times slower."""

    factor: float


@dataclass(frozen=True)
class ByParts(Stretch):
    """Llama 3.1: pairs that turn fewer than `low` times within `length` positions go `factor` times slower,
    those that turn more than `high` times as before, those between by a blend of both.
    """

    factor: float
    low: float
    high: float
    length: int


@dataclass(frozen=True)
class Rotary:
    """Su et al. 2021: the first `fraction` of each head is rotated; `pairs` says which numbers pair up."""

    theta: float = 10_000.0
    fraction: float = 1.0
    pairs: Literal["halves", "adjacent"] = "halves"
    scaling: Stretch | None = None


@dataclass(frozen=True)
class Attention(Mixer):
    """Multi-head attention; `bias` names which of the projections q, k, v, o have one ("qkvo", "qkv", "")."""

    heads: int
    kv_heads: int | None = None
    head_width: int | None = None
    rotary: Rotary | None = None
    qk_norm: Norm | None = None
    bias: str = ""
    scale: float | None = None
    window: int | None = None
    cap: float | None = None


@dataclass(frozen=True)
class Dropout:
    """Probabilities in training: of attention weights, of hidden units, of what a sub-layer adds.

    Attention dropout takes the open, slower path on every device.
    """

    attention: float = 0.0
    hidden: float = 0.0
    residual: float = 0.0


@dataclass(frozen=True)
class Block:
    """One layer. `order`: pre x + f(norm(x)); post norm(x + f(x)); sandwich x + norm(f(norm(x)));
    parallel x + f(norm(x)) + g(norm(x)), the feed-forward with a norm of its own.
    """

    mixer: Mixer
    ffn: FeedForward | None
    norm: Norm
    order: Literal["pre", "post", "sandwich", "parallel"] = "pre"
    cross: Attention | None = None
    dropout: Dropout = Dropout()


@dataclass(frozen=True)
class ALiBi(Bias):
    """Press et al. 2021: score minus slope * distance, one fixed slope a head."""


@dataclass(frozen=True)
class RelativeBias(Bias):
    """T5 (Raffel et al. 2019): a learned number a head and bucket of distances, shared by all layers."""

    buckets: int = 32
    distance: int = 128


@dataclass(frozen=True)
class Stack:
    """`layers` blocks in depth; `blocks` is cycled (local, local, global). `distinct`: how many blocks own
    weights, the rest reuse them in turn (1 in ALBERT); None means every depth its own.
    """

    layers: int
    blocks: tuple[Block, ...]
    sees: Literal["past", "all"]
    bias: Bias | None = None
    final_norm: Norm | None = None
    distinct: int | None = None


@dataclass(frozen=True)
class Learned(Position):
    """A learned vector for each of `length` positions; position p reads row p + offset (2 in RoBERTa)."""

    length: int
    offset: int = 0


@dataclass(frozen=True)
class Sinusoidal(Position):
    """Vaswani et al. 2017: sines and cosines, interleaved (paper) or side by side (Marian)."""

    base: float = 10_000.0
    layout: Literal["interleaved", "halves"] = "interleaved"


@dataclass(frozen=True)
class Tokens(Input):
    """Token embedding, times `scale`, plus position and segment; `factor` is ALBERT's narrow width."""

    vocab: int
    position: Position | None = None
    segments: int = 0
    norm: Norm | None = None
    scale: float = 1.0
    factor: int | None = None
    dropout: float = 0.0


@dataclass(frozen=True)
class Patches(Input):
    """Dosovitskiy et al. 2020: square patches of a square image, a class token first, learned positions."""

    image: int
    size: int
    channels: int = 3
    dropout: float = 0.0


@dataclass(frozen=True)
class Transform:
    """BERT's dense layer, activation and norm in front of the vocabulary; `width` None keeps the model's."""

    act: Activation
    norm: Norm
    width: int | None = None


@dataclass(frozen=True)
class NextToken(Head):
    """Scores over the vocabulary; `tied` reuses the token embedding; `cap` is Gemma 2's soft cap."""

    tied: bool = True
    bias: bool = False
    transform: Transform | None = None
    scale: float = 1.0
    cap: float | None = None


@dataclass(frozen=True)
class Pooler:
    """BERT's dense layer and activation behind what is pooled."""

    act: Activation = "tanh"


@dataclass(frozen=True)
class Classify(Head):
    """Scores over classes, from the first position or from the mean of all."""

    classes: int
    pool: Literal["first", "mean"] = "first"
    pooler: Pooler | None = None


@dataclass(frozen=True)
class Vectors(Head):
    """No predictions but the last vectors themselves; BERT keeps a `pooler` of the first one beside them."""

    pooler: Pooler | None = None


@dataclass(frozen=True)
class Init:
    """Initial values: normal with deviation `std` (None: 1/sqrt(fan-in)), or `embedding` for embeddings.

    `residual`: what adds to the residual stream starts the same, scaled by 1/sqrt(2 * layers), or at zero.
    """

    std: float | None = 0.02
    embedding: float = 0.02
    residual: Literal["same", "scaled", "zero"] = "scaled"


@dataclass(frozen=True)
class Single(Model):
    """One stack: an encoder where it sees all, a decoder where it sees the past."""

    width: int
    input: Input
    stack: Stack
    head: Head
    init: Init = field(default_factory=Init)


@dataclass(frozen=True)
class Paired(Model):
    """An encoder and a decoder that looks at it; without `target` both share the input `source`."""

    width: int
    source: Input
    encoder: Stack
    decoder: Stack
    head: Head
    target: Input | None = None
    init: Init = field(default_factory=Init)
