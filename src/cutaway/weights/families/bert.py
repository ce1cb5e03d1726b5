"""BERT (Devlin et al. 2018): the bare encoder (MiniLM is one), masked language model, sentence classifier."""

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
    check_divides,
    expect,
)
from cutaway.weights.keys import KeyMap, Row, rows

ENCODER = rows(
    {
        "bert.embeddings.word_embeddings": "input.token",
        "bert.embeddings.position_embeddings": "input.position",
        "bert.embeddings.token_type_embeddings": "input.segment",
    },
    ("weight",),
) + rows(
    {
        "bert.embeddings.LayerNorm": "input.norm",
        "bert.encoder.layer.*.attention.self.query": "blocks.*.attn.query",
        "bert.encoder.layer.*.attention.self.key": "blocks.*.attn.key",
        "bert.encoder.layer.*.attention.self.value": "blocks.*.attn.value",
        "bert.encoder.layer.*.attention.output.dense": "blocks.*.attn.out",
        "bert.encoder.layer.*.attention.output.LayerNorm": "blocks.*.mixer_norm",
        "bert.encoder.layer.*.intermediate.dense": "blocks.*.ffn.up",
        "bert.encoder.layer.*.output.dense": "blocks.*.ffn.down",
        "bert.encoder.layer.*.output.LayerNorm": "blocks.*.ffn_norm",
        "bert.pooler.dense": "head.pooler.dense",
    }
)
TRANSFORM = rows(
    {
        "cls.predictions.transform.dense": "head.transform.dense",
        "cls.predictions.transform.LayerNorm": "head.transform.norm",
    }
)
TIED = (
    ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    ("cls.predictions.decoder.bias", "cls.predictions.bias"),
)
OLD = ((".gamma", ".weight"), (".beta", ".bias"))
IGNORED = ("bert.embeddings.position_ids", "bert.embeddings.token_type_ids")
POOLER = ("bert.pooler.dense.weight", "bert.pooler.dense.bias")
PAIRS = ("cls.seq_relationship.weight", "cls.seq_relationship.bias")  # is the second sentence the next one?
ARCHITECTURES = {
    "BertModel": "vectors",
    "BertForMaskedLM": "tokens",
    "BertForPreTraining": "tokens",
    "BertForSequenceClassification": "classes",
}


def read(table: Table, tensors: Tensors) -> Config:
    """What a BERT config says; without architectures the file's tensors tell which head it has."""
    names = {name.removeprefix("bert.") for name in tensors}
    guess = "BertForMaskedLM" if "cls.predictions.bias" in names else "BertModel"
    guess = "BertForSequenceClassification" if "classifier.weight" in names else guess
    kind = architecture(table, ARCHITECTURES, guess)
    width, heads = table.count("hidden_size", 768), table.count("num_attention_heads", 12, most=MOST_HEADS)
    check_divides(table, "num_attention_heads", heads, width)
    norm = spec.LayerNorm(table.number("layer_norm_eps", 1e-12))
    act = table.activation("hidden_act", "gelu")
    ffn = spec.MLP(table.count("intermediate_size", 3072), act)
    block = spec.Block(spec.Attention(heads, bias="qkvo"), ffn, norm, "post")
    length = table.count("max_position_embeddings", 512, most=MOST_TOKENS)
    segments = table.count("type_vocab_size", 2, most=MOST_HEADS)
    tokens = spec.Tokens(
        table.count("vocab_size", 30522, most=MOST_TOKENS), spec.Learned(length), segments=segments, norm=norm
    )
    stack = spec.Stack(table.count("num_hidden_layers", 12, most=MOST_LAYERS), (block,), "all")
    tied, labels = table.flag("tie_word_embeddings", True), ()
    match kind:
        case "tokens":
            head = spec.NextToken(tied, True, spec.Transform(act, norm))
        case "classes":
            table.only("problem_type", None, "single_label_classification")
            labels = table.labels()
            head = spec.Classify(len(labels), pooler=spec.Pooler())
        case _:
            head = spec.Vectors(spec.Pooler() if "pooler.dense.weight" in names else None)
    told = labels if len(labels) > 1 else ()  # one score is a regression, and sorts into nothing
    return Config(spec.Single(width, tokens, stack, head), length, told)


def write(plan: Any, length: int) -> dict[str, Any]:
    """The config of a spec, as far as BERT has words for it."""
    block = block_of(plan.stack)
    ffn = expect(block.ffn, spec.MLP, "stack.blocks[0].ffn")
    tokens = expect(plan.input, spec.Tokens, "input")
    config = {
        "model_type": "bert",
        "vocab_size": tokens.vocab,
        "hidden_size": plan.width,
        "num_hidden_layers": plan.stack.layers,
        "num_attention_heads": block.mixer.heads,
        "intermediate_size": ffn.hidden,
        "hidden_act": activation_word(ffn.act, ("gelu_new", "gelu")),
        "max_position_embeddings": expect(tokens.position, spec.Learned, "input.position").length,
        "type_vocab_size": tokens.segments,
        "layer_norm_eps": expect(block.norm, spec.LayerNorm, "stack.blocks[0].norm").eps,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "position_embedding_type": "absolute",
    }
    if not tokens.segments:
        raise UnsaidError("input.segments: 0, and BERT adds a vector of one of at least 1 segments")
    match plan.head:
        case spec.NextToken(tied=tied):
            return config | {"architectures": ["BertForMaskedLM"], "tie_word_embeddings": tied}
        case spec.Classify():
            return config | {"architectures": ["BertForSequenceClassification"]}
    return config | {"architectures": ["BertModel"]}


def keys(plan: Any) -> KeyMap:
    """The names of a spec's tensors: the head decides what else a file may hold."""
    match plan.head:
        case spec.NextToken(tied=True):
            head = (*TRANSFORM, Row(("head.bias",), "cls.predictions.bias"))
            return KeyMap(ENCODER + head, "bert.", OLD, TIED, IGNORED, POOLER + PAIRS)
        case spec.NextToken():
            own = (("head.out.weight", TIED[0][0]), ("head.bias", TIED[1][0]))
            head = (*TRANSFORM, *(Row((ours,), theirs) for ours, theirs in own))
            return KeyMap(
                ENCODER + head, "bert.", OLD, (), IGNORED, (*POOLER, *PAIRS, "cls.predictions.bias")
            )
        case spec.Classify():
            return KeyMap(ENCODER + rows({"classifier": "head.out"}), "bert.", OLD, (), IGNORED)
    plain = tuple(Row(row.ours, row.theirs.removeprefix("bert."), row.layout) for row in ENCODER)
    return KeyMap(plain, "bert.", OLD, (), IGNORED)


FAMILIES = (Family("bert", read, write, keys),)
