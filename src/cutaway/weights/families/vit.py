"""ViT (Dosovitskiy et al. 2020): image classifiers, and the bare encoder."""

from typing import Any

from cutaway import spec
from cutaway.weights.config import MOST_HEADS, MOST_LAYERS, MOST_SIDE, Table
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
from cutaway.weights.keys import CELL, ROW, KeyMap, Row, rows

ROWS = (
    Row(("input.first",), "vit.embeddings.cls_token", CELL),
    Row(("input.position",), "vit.embeddings.position_embeddings", ROW),
    *rows(
        {
            "vit.embeddings.patch_embeddings.projection": "input.patch",
            "vit.encoder.layer.*.layernorm_before": "blocks.*.mixer_norm",
            "vit.encoder.layer.*.attention.attention.query": "blocks.*.attn.query",
            "vit.encoder.layer.*.attention.attention.key": "blocks.*.attn.key",
            "vit.encoder.layer.*.attention.attention.value": "blocks.*.attn.value",
            "vit.encoder.layer.*.attention.output.dense": "blocks.*.attn.out",
            "vit.encoder.layer.*.layernorm_after": "blocks.*.ffn_norm",
            "vit.encoder.layer.*.intermediate.dense": "blocks.*.ffn.up",
            "vit.encoder.layer.*.output.dense": "blocks.*.ffn.down",
            "vit.layernorm": "final_norm",
            "vit.pooler.dense": "head.pooler.dense",
            "classifier": "head.out",
        }
    ),
)
ARCHITECTURES = {"ViTForImageClassification": True, "ViTModel": False}
HARMLESS = ("encoder_stride",)


def keys(plan: Any) -> KeyMap:
    """The names of a spec's tensors: those of the bare encoder have no prefix."""
    if isinstance(plan.head, spec.Classify):
        return KeyMap(ROWS, "vit.", left_out=("vit.pooler.dense.weight", "vit.pooler.dense.bias"))
    return KeyMap(tuple(Row(row.ours, row.theirs.removeprefix("vit."), row.layout) for row in ROWS), "vit.")


def read(table: Table, tensors: Tensors) -> Config:
    """What a ViT config says; without architectures the file's tensors tell whether it classifies."""
    guess = "ViTForImageClassification" if "classifier.weight" in tensors else "ViTModel"
    classifies = architecture(table, ARCHITECTURES, guess)
    width, heads = table.count("hidden_size", 768), table.count("num_attention_heads", 12, most=MOST_HEADS)
    check_divides(table, "num_attention_heads", heads, width)
    image, size = side(table, "image_size", 224), side(table, "patch_size", 16)
    if image % size:
        raise table.refuse("patch_size", f"{size} does not divide image_size, {image}")
    norm = spec.LayerNorm(table.number("layer_norm_eps", 1e-12))
    bias = "qkvo" if table.flag("qkv_bias", True) else "o"
    ffn = spec.MLP(table.count("intermediate_size", 3072), table.activation("hidden_act", "gelu"))
    block = spec.Block(spec.Attention(heads, bias=bias), ffn, norm)
    layers = table.count("num_hidden_layers", 12, most=MOST_LAYERS)
    stack = spec.Stack(layers, (block,), "all", final_norm=norm)
    channels = table.count("num_channels", 3, most=2**10)
    act = table.activation("pooler_act", "tanh")
    table.only("pooler_output_size", None, width)
    labels = table.labels() if classifies else ()
    pooler = spec.Pooler(act) if {"pooler.dense.weight", "vit.pooler.dense.weight"} & set(tensors) else None
    head = spec.Classify(len(labels)) if classifies else spec.Vectors(pooler)
    return Config(spec.Single(width, spec.Patches(image, size, channels), stack, head), None, labels)


def side(table: Table, key: str, default: int) -> int:
    """The side of a square, which some configs write as [side, side]."""
    value = table.take(key, default)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    return Table({key: value}, table.path).count(key, most=MOST_SIDE)


def write(plan: Any, length: int) -> dict[str, Any]:
    """The config of a spec, as far as ViT has words for it."""
    block, patches = block_of(plan.stack), expect(plan.input, spec.Patches, "input")
    ffn = expect(block.ffn, spec.MLP, "stack.blocks[0].ffn")
    config = {
        "model_type": "vit",
        "hidden_size": plan.width,
        "num_hidden_layers": plan.stack.layers,
        "num_attention_heads": block.mixer.heads,
        "intermediate_size": ffn.hidden,
        "hidden_act": activation_word(ffn.act),
        "layer_norm_eps": expect(block.norm, spec.LayerNorm, "stack.blocks[0].norm").eps,
        "image_size": patches.image,
        "patch_size": patches.size,
        "num_channels": patches.channels,
        "qkv_bias": "q" in block.mixer.bias,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if isinstance(plan.head, spec.Classify):
        return config | {"architectures": ["ViTForImageClassification"]}
    pooler = expect(plan.head, spec.Vectors, "head").pooler
    return config | {"architectures": ["ViTModel"]} | ({"pooler_act": pooler.act} if pooler else {})


FAMILIES = (Family("vit", read, write, keys, HARMLESS),)
