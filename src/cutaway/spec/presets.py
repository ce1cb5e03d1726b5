"""Published families and our own shapes, each a short function that returns a tree of records."""

from collections.abc import Callable

from cutaway.spec.model import (
    MLP,
    Attention,
    Block,
    Classify,
    Dropout,
    GatedMLP,
    Init,
    LayerNorm,
    Learned,
    Model,
    NextToken,
    Paired,
    Patches,
    RelativeBias,
    RMSNorm,
    Rotary,
    Single,
    Sinusoidal,
    Stack,
    Tokens,
    Transform,
)
from cutaway.spec.prior import bahdanau, cho, gehring, gru, lstm, luong, sutskever


def gpt2(
    layers: int = 12, width: int = 768, heads: int = 12, vocab: int = 50257, length: int = 1024
) -> Single:
    """GPT-2 (Radford et al. 2019): learned positions, pre-norm, GELU by tanh, biases everywhere, tied."""
    norm = LayerNorm()
    block = Block(
        Attention(heads, bias="qkvo"), MLP(4 * width, act="gelu_tanh"), norm, dropout=Dropout(0.0, 0.0, 0.0)
    )
    return Single(
        width, Tokens(vocab, Learned(length)), Stack(layers, (block,), "past", final_norm=norm), NextToken()
    )


def llama3(
    layers: int = 16,
    width: int = 2048,
    heads: int = 32,
    kv_heads: int = 8,
    hidden: int = 8192,
    vocab: int = 128256,
    tied: bool = True,
) -> Single:
    """Llama 3 (1B by default): rotary, RMSNorm, grouped heads, gated SiLU."""
    norm = RMSNorm(eps=1e-5)
    block = Block(Attention(heads, kv_heads, rotary=Rotary(500_000.0)), GatedMLP(hidden), norm)
    return Single(width, Tokens(vocab), Stack(layers, (block,), "past", final_norm=norm), NextToken(tied))


def bert(
    layers: int = 12, width: int = 768, heads: int = 12, vocab: int = 30522, length: int = 512
) -> Single:
    """BERT (Devlin et al. 2018) with its masked-language-model head: post-norm, sees all, two segments."""
    norm = LayerNorm(eps=1e-12)
    block = Block(Attention(heads, bias="qkvo"), MLP(4 * width), norm, order="post")
    return Single(
        width,
        Tokens(vocab, Learned(length), segments=2, norm=norm),
        Stack(layers, (block,), "all"),
        NextToken(bias=True, transform=Transform("gelu", norm)),
    )


def t5(layers: int = 6, width: int = 512, heads: int = 8, hidden: int = 2048, vocab: int = 32128) -> Paired:
    """T5 (Raffel et al. 2019): relative bias, RMSNorm, no other biases, scores not scaled, logits scaled."""
    norm, attend, ffn = RMSNorm(), Attention(heads, head_width=64, scale=1.0), MLP(hidden, "relu", bias=False)
    reader = Stack(layers, (Block(attend, ffn, norm),), "all", RelativeBias(), norm)
    writer = Stack(layers, (Block(attend, ffn, norm, cross=attend),), "past", RelativeBias(), norm)
    return Paired(
        width, Tokens(vocab), reader, writer, NextToken(scale=width**-0.5), init=Init(None, 1.0, "same")
    )


def vit(
    layers: int = 12,
    width: int = 768,
    heads: int = 12,
    image: int = 224,
    size: int = 16,
    channels: int = 3,
    classes: int = 1000,
) -> Single:
    """ViT (Dosovitskiy et al. 2020), base with patches of 16 by default."""
    norm = LayerNorm(eps=1e-12)
    block = Block(Attention(heads, bias="qkvo"), MLP(4 * width), norm)
    return Single(
        width,
        Patches(image, size, channels),
        Stack(layers, (block,), "all", final_norm=norm),
        Classify(classes),
    )


def vaswani(
    layers: int = 6,
    width: int = 512,
    heads: int = 8,
    hidden: int = 2048,
    vocab: int = 37000,
    dropout: float = 0.1,
) -> Paired:
    """The 2017 transformer (Vaswani et al.): post-norm, ReLU, sinusoids, one embedding for all.

    Algorithm 8 of Phuong & Hutter but for the embedding's scale sqrt(width), which they leave out.
    """
    norm, attend, ffn = LayerNorm(), Attention(heads, bias="qkvo"), MLP(hidden, "relu")
    drop = Dropout(residual=dropout)
    reader = Stack(layers, (Block(attend, ffn, norm, "post", dropout=drop),), "all")
    writer = Stack(layers, (Block(attend, ffn, norm, "post", cross=attend, dropout=drop),), "past")
    source = Tokens(vocab, Sinusoidal(), scale=width**0.5, dropout=dropout)
    return Paired(width, source, reader, writer, NextToken(), init=Init(None, width**-0.5, "same"))


def small(
    layers: int = 6,
    width: int = 256,
    heads: int = 4,
    kv_heads: int | None = None,
    hidden: int | None = None,
    vocab: int = 4096,
    dropout: float = 0.0,
) -> Single:
    """Ours, in the shape of Qwen3: rotary, RMSNorm, learned QK-norm, gated SiLU, tied; so it exports."""
    norm = RMSNorm()
    attend = Attention(heads, kv_heads, width // heads, Rotary(), qk_norm=norm)
    ffn = GatedMLP(hidden or max(64, 64 * round(width * 8 / 3 / 64)))
    block = Block(attend, ffn, norm, dropout=Dropout(residual=dropout))
    return Single(
        width,
        Tokens(vocab, dropout=dropout),
        Stack(layers, (block,), "past", final_norm=norm),
        NextToken(),
        Init(None, 0.02, "scaled"),
    )


def quick(
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    hidden: int | None = None,
    vocab: int = 256,
    dropout: float = 0.0,
) -> Single:
    """The shape that learned fastest per second in our measurements (LOG.md): `small` with squared ReLU (So
    et al. 2021), an output matrix of its own, and sub-layers that start at zero.
    """
    norm = RMSNorm()
    attend = Attention(heads, rotary=Rotary(), qk_norm=norm)
    block = Block(
        attend, MLP(hidden or 4 * width, "relu_squared", bias=False), norm, dropout=Dropout(residual=dropout)
    )
    return Single(
        width,
        Tokens(vocab, dropout=dropout),
        Stack(layers, (block,), "past", final_norm=norm),
        NextToken(tied=False),
        Init(None, 0.02, "zero"),
    )


def quick_pair(
    layers: int = 4,
    width: int = 128,
    heads: int = 4,
    hidden: int | None = None,
    vocab: int = 8000,
    dropout: float = 0.1,
) -> Paired:
    """`quick` as an encoder-decoder: both stacks with rotary positions and squared ReLU, one matrix for the
    source, the target and the output.
    """
    norm = RMSNorm()
    attend, look = Attention(heads, rotary=Rotary(), qk_norm=norm), Attention(heads, qk_norm=norm)
    ffn, drop = MLP(hidden or 2 * width, "relu_squared", bias=False), Dropout(residual=dropout)
    reader = Stack(layers, (Block(attend, ffn, norm, dropout=drop),), "all", final_norm=norm)
    writer = Stack(layers, (Block(attend, ffn, norm, cross=look, dropout=drop),), "past", final_norm=norm)
    source = Tokens(vocab, norm=norm, dropout=dropout)
    return Paired(width, source, reader, writer, NextToken(), init=Init(None, 0.02, "zero"))


def quick_encoder(
    layers: int = 4,
    width: int = 192,
    heads: int = 4,
    hidden: int | None = None,
    vocab: int = 8192,
    dropout: float = 0.0,
    classes: int | None = None,
) -> Single:
    """`quick` as an encoder, with initial values of its own: positions see each other on both sides, and the
    head tells hidden tokens by the embedding's matrix or, given `classes`, the class of the whole from the
    mean of its positions.
    """
    norm = RMSNorm()
    attend = Attention(heads, rotary=Rotary(), qk_norm=norm)
    ffn, drop = MLP(hidden or 4 * width, "relu_squared", bias=False), Dropout(residual=dropout)
    return Single(
        width,
        Tokens(vocab, norm=norm, dropout=dropout),
        Stack(layers, (Block(attend, ffn, norm, dropout=drop),), "all", final_norm=norm),
        NextToken(bias=True) if classes is None else Classify(classes, "mean"),
        Init(residual="zero"),
    )


PRESETS: dict[str, Callable[..., Model]] = {
    f.__name__: f
    for f in (
        *(gpt2, llama3, bert, t5, vit, vaswani, small, quick, quick_pair, quick_encoder),
        *(lstm, gru, sutskever, cho, bahdanau, luong, gehring),
    )
}
