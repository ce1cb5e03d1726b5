"""Llama 2 and 3 (Touvron et al. 2023), SmolLM, Mistral, Qwen2, Qwen3: one layout, four sets of defaults."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from cutaway import spec
from cutaway.weights.config import MOST_HEADS, MOST_LAYERS, MOST_TOKENS, Table
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
from cutaway.weights.families.rotary import read_rotary, write_rotary
from cutaway.weights.keys import KeyMap, Row, rows

KEYS = KeyMap(
    rows(
        {
            "model.embed_tokens": "input.token",
            "model.layers.*.input_layernorm": "blocks.*.mixer_norm",
            "model.layers.*.post_attention_layernorm": "blocks.*.ffn_norm",
            "model.layers.*.self_attn.q_norm": "blocks.*.attn.query_norm",
            "model.layers.*.self_attn.k_norm": "blocks.*.attn.key_norm",
            "model.norm": "final_norm",
        },
        ("weight",),
    )
    + rows(
        {
            "model.layers.*.self_attn.q_proj": "blocks.*.attn.query",
            "model.layers.*.self_attn.k_proj": "blocks.*.attn.key",
            "model.layers.*.self_attn.v_proj": "blocks.*.attn.value",
            "model.layers.*.self_attn.o_proj": "blocks.*.attn.out",
            "model.layers.*.mlp.gate_proj": "blocks.*.ffn.gate",
            "model.layers.*.mlp.up_proj": "blocks.*.ffn.up",
            "model.layers.*.mlp.down_proj": "blocks.*.ffn.down",
        }
    )
    + (Row(("head.out.weight",), "lm_head.weight"),),
    prefix="model.",
    copies=(("lm_head.weight", "model.embed_tokens.weight"),),
    ignored=("model.layers.*.self_attn.rotary_emb.inv_freq", "model.rotary_emb.inv_freq"),
)


@dataclass(frozen=True)
class Kind:
    """In what the four differ: the defaults of their configs, which biases there are, and windows.

    `bias` are the projections that have one, `asks` those that have one where `attention_bias` says so.
    `windows`: none, one in all layers, or as layer_types says.
    """

    name: str
    classes: str
    vocab: int
    hidden: int
    kv_heads: int | None
    head_width: int | None
    length: int
    bias: str = ""
    asks: str = ""
    ffn_bias: bool = False
    qk_norm: bool = False
    windows: str = "none"


LLAMA = Kind("llama", "Llama", 32000, 11008, None, None, 2048, asks="qkvo", ffn_bias=True)
MISTRAL = Kind("mistral", "Mistral", 32000, 14336, 8, None, 2**17, windows="all")
QWEN2 = Kind("qwen2", "Qwen2", 151936, 22016, 32, None, 2**15, bias="qkv", windows="types")
QWEN3 = Kind(
    "qwen3", "Qwen3", 151936, 22016, 32, 128, 2**15, asks="qkvo", qk_norm=True, windows="types"
)  # fmt: skip


def read(kind: Kind, table: Table, tensors: Tensors) -> Config:
    """What a config of this kind says."""
    causal, base = f"{kind.classes}ForCausalLM", f"{kind.classes}Model"
    architecture(table, {causal: True, base: True}, causal)
    width, layers = table.count("hidden_size", 4096), table.count("num_hidden_layers", 32, most=MOST_LAYERS)
    heads = table.count("num_attention_heads", 32, most=MOST_HEADS)
    shared = table.optional("num_key_value_heads", kind.kv_heads, most=MOST_HEADS) or heads
    head_width = table.optional("head_dim", kind.head_width, most=MOST_HEADS) or width // heads
    if heads % shared:
        raise table.refuse("num_key_value_heads", f"{shared} do not divide {heads} heads")
    if not head_width or head_width % 2:
        raise table.refuse("head_dim", f"{head_width} must be even: its numbers turn in pairs")
    norm = spec.RMSNorm(table.number("rms_norm_eps", 1e-6))
    bias = kind.asks if kind.asks and table.flag("attention_bias", False) else kind.bias
    length = table.count("max_position_embeddings", kind.length, most=MOST_TOKENS)
    rotary = read_rotary(table)
    ffn = spec.GatedMLP(
        table.count("intermediate_size", kind.hidden),
        table.activation("hidden_act", "silu"),
        kind.ffn_bias and table.flag("mlp_bias", False),
    )
    blocks = tuple(
        spec.Block(
            spec.Attention(
                heads, shared, head_width, rotary, norm if kind.qk_norm else None, bias, window=window
            ),
            ffn,
            norm,
        )
        for window in read_windows(kind, table, layers)
    )
    blocks = blocks[:1] if len(set(blocks)) == 1 else blocks
    tokens = spec.Tokens(table.count("vocab_size", kind.vocab, most=MOST_TOKENS))
    stack = spec.Stack(layers, blocks, "past", final_norm=norm)
    tied = table.flag("tie_word_embeddings", False)
    return Config(spec.Single(width, tokens, stack, spec.NextToken(tied)), length)


def read_windows(kind: Kind, table: Table, layers: int) -> list[int | None]:
    """The window of each layer, None where it sees the whole past."""
    if kind.windows == "none":
        table.only("sliding_window", None)
        return [None] * layers
    window = table.optional("sliding_window", 4096, most=MOST_TOKENS)
    if kind.windows == "all":
        return [window] * layers
    window = window if table.flag("use_sliding_window", False) else None
    full = table.count("max_window_layers", 28, least=0)
    types = table.take("layer_types", None)
    if types is None:
        return [window if layer >= full else None for layer in range(layers)]
    if not isinstance(types, list) or len(types) != layers:
        raise table.refuse("layer_types", f"must be a list with a word for each of {layers} layers")
    if any(word not in ("full_attention", "sliding_attention") for word in types):
        raise table.refuse("layer_types", "Cutaway has full_attention and sliding_attention")
    if window is None and "sliding_attention" in types:
        raise table.refuse("layer_types", "sliding_attention needs use_sliding_window and sliding_window")
    return [window if word == "sliding_attention" else None for word in types]


def write(kind: Kind, plan: Any, length: int) -> dict[str, Any]:
    """The config of a spec, as far as this kind has words for it."""
    block = block_of(plan.stack)
    attend, path = block.mixer, "stack.blocks[0]"
    ffn = expect(block.ffn, spec.GatedMLP, f"{path}.ffn")
    tokens = expect(plan.input, spec.Tokens, "input")
    rotary = expect(attend.rotary, spec.Rotary, f"{path}.mixer.rotary")
    head_width = attend.head_width or plan.width // attend.heads
    if kind is LLAMA and plan.width % attend.heads:
        raise UnsaidError(f"{path}.mixer.heads: {attend.heads} do not divide the width, {plan.width}")
    config: dict[str, Any] = {
        "model_type": kind.name,
        "architectures": [f"{kind.classes}ForCausalLM"],
        "vocab_size": tokens.vocab,
        "hidden_size": plan.width,
        "intermediate_size": ffn.hidden,
        "num_hidden_layers": plan.stack.layers,
        "num_attention_heads": attend.heads,
        "num_key_value_heads": attend.kv_heads or attend.heads,
        "head_dim": head_width,
        "hidden_act": activation_word(ffn.act, ("gelu_pytorch_tanh", "silu")),
        "max_position_embeddings": length,
        "rms_norm_eps": expect(block.norm, spec.RMSNorm, f"{path}.norm").eps,
        "tie_word_embeddings": expect(plan.head, spec.NextToken, "head").tied,
        "attention_dropout": 0.0,
    } | write_rotary(rotary, length)
    if kind.asks:
        config["attention_bias"] = bool(attend.bias)
    if kind.ffn_bias:
        config["mlp_bias"] = ffn.bias
    return config | write_windows(kind, plan.stack)


def write_windows(kind: Kind, stack: spec.Stack) -> dict[str, Any]:
    """The keys of a config that say which layers have a window."""
    each = [getattr(stack.blocks[i % len(stack.blocks)].mixer, "window", None) for i in range(stack.layers)]
    widest = next((window for window in each if window), None)
    if kind.windows == "none":
        return {}
    if kind.windows == "all":
        return {"sliding_window": widest}
    types = ["sliding_attention" if window else "full_attention" for window in each]
    asked = {"use_sliding_window": widest is not None, "sliding_window": widest}
    return {**asked, "max_window_layers": stack.layers, "layer_types": types}


FAMILIES = tuple(
    Family(kind.name, partial(read, kind), partial(write, kind), lambda plan: KEYS, ("is_llama_config",))
    for kind in (LLAMA, QWEN3, QWEN2, MISTRAL)
)
