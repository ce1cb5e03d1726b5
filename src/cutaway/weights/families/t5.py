"""T5 (Raffel et al. 2019) and its version 1.1, whose feed-forward is gated and whose output is its own."""

from typing import Any

from cutaway import spec
from cutaway.weights.config import ACTIVATIONS, MOST_HEADS, MOST_LAYERS, MOST_TOKENS, Table
from cutaway.weights.families.family import (
    Config,
    Family,
    Tensors,
    UnsaidError,
    activation_word,
    architecture,
    block_of,
    expect,
)
from cutaway.weights.keys import KeyMap, Row, rows, same

PARTS = {"q": "query", "k": "key", "v": "value", "o": "out"}
FFN = {"wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down"}
SHARED, OUT = "shared.weight", "lm_head.weight"
BIAS = "SelfAttention.relative_attention_bias.weight"
DENSE = "DenseReluDense"
LENGTH = 512  # tokens T5 was trained with; its relative bias knows no end


def side_rows(side: str, ffn: int, gated: bool) -> tuple[Row, ...]:
    """The rows of the encoder or of the decoder, whose feed-forward is the sub-layer number `ffn`."""
    at, here = f"{side}.block.*.layer", f"{side}.blocks.*"
    names = {f"{at}.0.SelfAttention.{theirs}": f"{here}.attn.{ours}" for theirs, ours in PARTS.items()}
    names |= {f"{at}.1.EncDecAttention.{theirs}": f"{here}.cross.{ours}" for theirs, ours in PARTS.items()}
    wanted = ("wi_0", "wi_1", "wo") if gated else ("wi", "wo")
    names |= {f"{at}.{ffn}.{DENSE}.{theirs}": f"{here}.ffn.{FFN[theirs]}" for theirs in wanted}
    names |= {f"{at}.0.layer_norm": f"{here}.mixer_norm", f"{at}.1.layer_norm": f"{here}.cross_norm"}
    names |= {f"{at}.{ffn}.layer_norm": f"{here}.ffn_norm", f"{side}.final_layer_norm": f"{side}.final_norm"}
    return (*rows(names, ("weight",)), Row((f"{side}.bias.weight",), f"{side}.block.0.layer.0.{BIAS}"))


def keys(plan: Any) -> KeyMap:
    """The names of a spec's tensors."""
    gated = isinstance(plan.encoder.blocks[0].ffn, spec.GatedMLP)
    return KeyMap(
        side_rows("encoder", 1, gated)
        + side_rows("decoder", 2, gated)
        + (Row(("source.token.weight",), SHARED), Row(("head.out.weight",), OUT)),
        copies=tuple(
            (name, SHARED) for name in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", OUT)
        ),
        ignored=(
            "decoder.block.*.layer.1.EncDecAttention.relative_attention_bias.weight",
        ),  # never read by any
    )


def read(table: Table, tensors: Tensors) -> Config:
    """What a T5 config says.

    transformers 5 writes that the output is tied where it is not, and says how it is scaled by a key of its
    own: a file with another matrix for the output settles it.
    """
    architecture(table, {"T5ForConditionalGeneration": True}, "T5ForConditionalGeneration")
    width, heads = (
        table.count("d_model", 512, also="hidden_size"),
        table.count("num_heads", 8, most=MOST_HEADS),
    )
    hidden, inner = table.count("d_ff", 2048), table.count("d_kv", 64, most=MOST_HEADS)
    word = table.take("feed_forward_proj", "relu")
    gated = isinstance(word, str) and word.startswith("gated-")
    act = table.activation("feed_forward_proj", "relu") if not gated else gate_activation(table, word)
    table.only("is_gated_act", gated, None)
    if (said := table.take("dense_act_fn", None)) is not None and ACTIVATIONS.get(str(said)) != act:
        raise table.refuse("dense_act_fn", f"{said!r}, but feed_forward_proj says {word!r}")
    norm = spec.RMSNorm(table.number("layer_norm_epsilon", 1e-6))
    attend = spec.Attention(heads, heads, inner, scale=1.0)
    ffn = spec.GatedMLP(hidden, act) if gated else spec.MLP(hidden, act, bias=False)
    bias = spec.RelativeBias(
        table.count("relative_attention_num_buckets", 32, least=4, most=MOST_HEADS),
        table.count("relative_attention_max_distance", 128, least=2),
    )
    layers = table.count("num_layers", 6, most=MOST_LAYERS)
    writing = table.optional("num_decoder_layers", layers, most=MOST_LAYERS) or layers
    reader = spec.Stack(layers, (spec.Block(attend, ffn, norm),), "all", bias, norm)
    writer = spec.Stack(writing, (spec.Block(attend, ffn, norm, cross=attend),), "past", bias, norm)
    tied = table.flag("tie_word_embeddings", True)
    scaled = table.flag("scale_decoder_outputs", tied)
    if tied and not scaled and OUT in tensors and SHARED in tensors:
        tied = same(tensors[OUT], tensors[SHARED])
    length = table.count("n_positions", LENGTH, most=MOST_TOKENS)
    source = spec.Tokens(table.count("vocab_size", 32128, most=MOST_TOKENS))
    head = spec.NextToken(tied, scale=width**-0.5 if scaled else 1.0)
    return Config(spec.Paired(width, source, reader, writer, head), length)


def gate_activation(table: Table, word: str) -> Any:
    """What gates: of T5's own `gated-gelu` the tanh form."""
    act = word.removeprefix("gated-")
    act = "gelu_new" if act == "gelu" else act
    return Table({"feed_forward_proj": act}, table.path).activation("feed_forward_proj", act)


def write(plan: Any, length: int) -> dict[str, Any]:
    """The config of a spec, as far as T5 has words for it."""
    block, bias = (
        block_of(plan.encoder, "encoder"),
        expect(plan.encoder.bias, spec.RelativeBias, "encoder.bias"),
    )
    gated = isinstance(block.ffn, spec.GatedMLP)
    ffn = expect(block.ffn, spec.GatedMLP if gated else spec.MLP, "encoder.blocks[0].ffn")
    head = expect(plan.head, spec.NextToken, "head")
    act = "gelu" if gated and ffn.act == "gelu_tanh" else activation_word(ffn.act, ("gelu_new", "relu"))
    if gated and ffn.act == "gelu":
        raise UnsaidError("encoder.blocks[0].ffn.act: T5's gated-gelu is gelu_tanh")
    return {
        "model_type": "t5",
        "architectures": ["T5ForConditionalGeneration"],
        "is_encoder_decoder": True,
        "vocab_size": expect(plan.source, spec.Tokens, "source").vocab,
        "d_model": plan.width,
        "d_kv": block.mixer.head_width or plan.width // block.mixer.heads,
        "d_ff": ffn.hidden,
        "num_layers": plan.encoder.layers,
        "num_decoder_layers": plan.decoder.layers,
        "num_heads": block.mixer.heads,
        "relative_attention_num_buckets": bias.buckets,
        "relative_attention_max_distance": bias.distance,
        "feed_forward_proj": f"gated-{act}" if gated else act,
        "layer_norm_epsilon": expect(block.norm, spec.RMSNorm, "encoder.blocks[0].norm").eps,
        "dropout_rate": 0.0,
        "n_positions": length,
        "tie_word_embeddings": head.tied,
        "scale_decoder_outputs": head.scale != 1.0,
    }


FAMILIES = (Family("t5", read, write, keys, root=spec.Paired),)
