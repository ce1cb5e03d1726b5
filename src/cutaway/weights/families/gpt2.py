"""GPT-2 (Radford et al. 2019): `GPT2LMHeadModel`, or `GPT2Model`, whose head is its token embedding."""

from typing import Any

from cutaway import spec
from cutaway.weights.config import MOST_HEADS, MOST_LAYERS, MOST_TOKENS, Table
from cutaway.weights.families.family import (
    Config,
    Family,
    Tensors,
    activation_word,
    architecture,
    block_of,
    check_divides,
    expect,
)
from cutaway.weights.keys import JOINED, TURNED, KeyMap, Row, rows

QKV = ("query", "key", "value")
KEYS = KeyMap(
    rows({"transformer.wte": "input.token", "transformer.wpe": "input.position"}, ("weight",))
    + rows(
        {
            "transformer.h.*.ln_1": "blocks.*.mixer_norm",
            "transformer.h.*.ln_2": "blocks.*.ffn_norm",
            "transformer.ln_f": "final_norm",
        }
    )
    + tuple(
        Row(tuple(f"blocks.*.{name}.{end}" for name in ours), f"transformer.h.*.{theirs}.{end}", layout)
        for theirs, ours in {
            "attn.c_attn": tuple(f"attn.{name}" for name in QKV),
            "attn.c_proj": ("attn.out",),
            "mlp.c_fc": ("ffn.up",),
            "mlp.c_proj": ("ffn.down",),
        }.items()
        for end, layout in (("weight", TURNED), ("bias", JOINED))
    )
    + (Row(("head.out.weight",), "lm_head.weight"),),
    prefix="transformer.",
    copies=(("lm_head.weight", "transformer.wte.weight"),),
    ignored=("transformer.h.*.attn.bias", "transformer.h.*.attn.masked_bias"),
)
ARCHITECTURES = {"GPT2LMHeadModel": True, "GPT2Model": True}
HARMLESS = (
    "n_ctx reorder_and_upcast_attn summary_type summary_use_proj summary_activation "
    "summary_proj_to_labels summary_first_dropout"
)


def read(table: Table, tensors: Tensors) -> Config:
    """What a GPT-2 config says."""
    architecture(table, ARCHITECTURES, "GPT2LMHeadModel")
    width = table.count("n_embd", 768, also="hidden_size")
    heads = table.count("n_head", 12, most=MOST_HEADS, also="num_attention_heads")
    layers = table.count("n_layer", 12, most=MOST_LAYERS, also="num_hidden_layers")
    length = table.count("n_positions", 1024, most=MOST_TOKENS, also="max_position_embeddings")
    check_divides(table, "n_head", heads, width)
    table.only("scale_attn_by_inverse_layer_idx", False)
    scale = None if table.flag("scale_attn_weights", True) else 1.0
    attend = spec.Attention(heads, bias="qkvo", scale=scale)
    ffn = spec.MLP(
        table.optional("n_inner") or 4 * width, table.activation("activation_function", "gelu_new")
    )
    norm = spec.LayerNorm(table.number("layer_norm_epsilon", 1e-5))
    tokens = spec.Tokens(table.count("vocab_size", 50257, most=MOST_TOKENS), spec.Learned(length))
    stack = spec.Stack(layers, (spec.Block(attend, ffn, norm),), "past", final_norm=norm)
    tied = table.flag("tie_word_embeddings", True)
    return Config(spec.Single(width, tokens, stack, spec.NextToken(tied)), length)


def write(plan: Any, length: int) -> dict[str, Any]:
    """The config of a spec, as far as GPT-2 has words for it."""
    block = block_of(plan.stack)
    ffn, norm = expect(block.ffn, spec.MLP, "stack.blocks[0].ffn"), block.norm
    expect(norm, spec.LayerNorm, "stack.blocks[0].norm")
    tokens = expect(plan.input, spec.Tokens, "input")
    position = expect(tokens.position, spec.Learned, "input.position")
    return {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "vocab_size": tokens.vocab,
        "n_positions": position.length,
        "n_embd": plan.width,
        "n_layer": plan.stack.layers,
        "n_head": block.mixer.heads,
        "n_inner": ffn.hidden,
        "activation_function": activation_word(ffn.act, ("gelu_new",)),
        "layer_norm_epsilon": norm.eps,
        "scale_attn_weights": block.mixer.scale != 1.0,
        "tie_word_embeddings": expect(plan.head, spec.NextToken, "head").tied,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }


FAMILIES = (Family("gpt2", read, write, lambda plan: KEYS, tuple(HARMLESS.split())),)
