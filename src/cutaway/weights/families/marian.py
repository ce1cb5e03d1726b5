"""Marian (Junczys-Dowmunt et al. 2018): the 2017 transformer as OPUS-MT's translators have it."""

from typing import Any

from torch import Tensor, arange

from cutaway import spec
from cutaway.nn import part
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
from cutaway.weights.keys import ROW, KeyMap, Row, rows, same

HALVES = spec.Sinusoidal(layout="halves")
SIDES = {
    f"model.{side}.layers.*.{theirs}": f"{side}.blocks.*.{ours}"
    for side in ("encoder", "decoder")
    for theirs, ours in {
        **{
            f"{block}.{their}_proj": f"{our}.{part_name}"
            for block, our in (("self_attn", "attn"), ("encoder_attn", "cross"))
            for their, part_name in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "out"))
        },
        "self_attn_layer_norm": "mixer_norm",
        "encoder_attn_layer_norm": "cross_norm",
        "final_layer_norm": "ffn_norm",
        "fc1": "ffn.up",
        "fc2": "ffn.down",
    }.items()
}
SHARED, OUT = "model.shared.weight", "lm_head.weight"
SOURCE, TARGET = "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight"


def table_of_positions(found: Tensor) -> Tensor:
    """The sines and cosines that a table of this shape must hold, (L, D) in float64."""
    places = arange(found.size(0))[None]
    return part(HALVES, found.size(1))(places, found.size(0) - 1)[0]


FIXED = tuple((f"model.{side}.embed_positions.weight", table_of_positions) for side in ("encoder", "decoder"))


def keys(plan: Any) -> KeyMap:
    """The names of a spec's tensors: one matrix for both vocabularies, or one each."""
    own = (Row(("head.out.weight",), OUT), Row(("head.bias",), "final_logits_bias", ROW))
    if plan.target is not None:
        matrices = (Row(("source.token.weight",), SOURCE), Row(("target.token.weight",), TARGET))
        parts = rows(SIDES) + matrices + own
        return KeyMap(parts, "model.", copies=((OUT, TARGET),), fixed=FIXED, left_out=(SHARED,))
    parts, inputs = (
        (*rows(SIDES), Row(("source.token.weight",), SHARED), *own),
        ((SOURCE, SHARED), (TARGET, SHARED)),
    )
    spelled = () if plan.head.tied else inputs
    return KeyMap(parts, "model.", copies=(*inputs, (OUT, SHARED)), fixed=FIXED, spelled=spelled)


def read(table: Table, tensors: Tensors) -> Config:
    """What a Marian config says.

    Where nothing is tied, transformers 5 ties the two inputs neither, whatever the config says of sharing: a
    file with other matrices for them settles it.
    """
    architecture(table, {"MarianMTModel": True}, "MarianMTModel")
    for key, built in (
        ("normalize_before", False),
        ("normalize_embedding", False),
        ("add_final_layer_norm", False),
    ):
        table.only(key, built)
    table.only("static_position_embeddings", True)
    width, act = (
        table.count("d_model", 1024, also="hidden_size"),
        table.activation("activation_function", "gelu"),
    )
    norm = spec.LayerNorm()
    stacks = []
    for side in ("encoder", "decoder"):
        heads = table.count(f"{side}_attention_heads", 16, most=MOST_HEADS)
        check_divides(table, f"{side}_attention_heads", heads, width)
        attend = spec.Attention(heads, bias="qkvo")
        ffn = spec.MLP(table.count(f"{side}_ffn_dim", 4096), act)
        cross, sees = (None, "all") if side == "encoder" else (attend, "past")
        block = spec.Block(attend, ffn, norm, "post", cross)
        stacks.append(spec.Stack(table.count(f"{side}_layers", 12, most=MOST_LAYERS), (block,), sees))
    table.only("num_hidden_layers", stacks[0].layers)
    vocab = table.count("vocab_size", 58101, most=MOST_TOKENS)
    scale = width**0.5 if table.flag("scale_embedding", False) else 1.0
    source, target = spec.Tokens(vocab, HALVES, scale=scale), None
    written = table.optional("decoder_vocab_size", most=MOST_TOKENS) or vocab
    tied, shared = (
        table.flag(key, True) for key in ("tie_word_embeddings", "share_encoder_decoder_embeddings")
    )
    if shared and not tied and SHARED in tensors:
        shared = all(name not in tensors or same(tensors[name], tensors[SHARED]) for name in (SOURCE, TARGET))
    if not shared:
        target = spec.Tokens(written, HALVES, scale=scale)
    elif written != vocab:
        raise table.refuse("decoder_vocab_size", f"{written}, but both sides share the {vocab} of vocab_size")
    length = table.count("max_position_embeddings", 1024, most=MOST_TOKENS)
    head = spec.NextToken(tied, bias=True)
    return Config(spec.Paired(width, source, stacks[0], stacks[1], head, target), length)


def write(plan: Any, length: int) -> dict[str, Any]:
    """The config of a spec, as far as Marian has words for it."""
    config: dict[str, Any] = {
        "model_type": "marian",
        "architectures": ["MarianMTModel"],
        "is_encoder_decoder": True,
        "d_model": plan.width,
        "vocab_size": expect(plan.source, spec.Tokens, "source").vocab,
        "decoder_vocab_size": expect(plan.target or plan.source, spec.Tokens, "target").vocab,
        "share_encoder_decoder_embeddings": plan.target is None,
        "scale_embedding": plan.source.scale != 1.0,
        "max_position_embeddings": length,
        "tie_word_embeddings": expect(plan.head, spec.NextToken, "head").tied,
        "static_position_embeddings": True,
        "dropout": 0.0,
    }
    for side, stack in (("encoder", plan.encoder), ("decoder", plan.decoder)):
        block = block_of(stack, side)
        ffn = expect(block.ffn, spec.MLP, f"{side}.blocks[0].ffn")
        config |= {f"{side}_layers": stack.layers, f"{side}_attention_heads": block.mixer.heads}
        config |= {f"{side}_ffn_dim": ffn.hidden, "activation_function": activation_word(ffn.act)}
    return config


HARMLESS = ("add_bias_logits", "extra_pos_embeddings", "force_bos_token_to_be_generated", "save_step")
FAMILIES = (Family("marian", read, write, keys, HARMLESS, spec.Paired),)
