"""Which values make sense: the rules that types cannot say, with the path of the first one broken."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any

from cutaway.errors import ConfigError
from cutaway.spec import model as m
from cutaway.spec import recurrent as q
from cutaway.spec import run as r

Rule = tuple[str, Callable[[Any], bool]]

COUNT: Rule = ("must be at least 1", lambda v: v >= 1)
ODD: Rule = ("must be odd, as many positions on either side", lambda v: v >= 1 and v % 2 == 1)
AMOUNT: Rule = ("must be at least 0", lambda v: v >= 0)
POSITIVE: Rule = ("must be more than 0", lambda v: v > 0)
CHANCE: Rule = ("must be at least 0 and less than 1", lambda v: 0 <= v < 1)
SHARE: Rule = ("must lie between 0 and 1", lambda v: 0 <= v <= 1)
SEVERAL: Rule = ("must be 2 or more, or 0", lambda v: v == 0 or v >= 2)
INSIDE: Rule = ("must be more than 0 and less than 1", lambda v: 0 < v < 1)
PORTION: Rule = ("must be more than 0 and at most 1", lambda v: 0 < v <= 1)
SOME: Rule = ("must not be empty", lambda v: len(v) > 0)
CHANCES: Rule = ("must each be at least 0 and less than 1", lambda v: all(0 <= b < 1 for b in v))
PROJECTIONS: Rule = (
    'must name some of q, k, v, o, each once, as in "qkv"',
    lambda v: set(v) <= set("qkvo") and len(set(v)) == len(v),
)

RULES: dict[type, dict[str, Rule]] = {
    m.LayerNorm: {"eps": AMOUNT},
    m.RMSNorm: {"eps": AMOUNT},
    m.MLP: {"hidden": COUNT},
    m.GatedMLP: {"hidden": COUNT},
    m.Interpolated: {"factor": POSITIVE},
    m.ByParts: {"factor": POSITIVE, "low": POSITIVE, "high": POSITIVE, "length": COUNT},
    m.Rotary: {"theta": POSITIVE, "fraction": PORTION},
    m.Attention: {
        "heads": COUNT,
        "kv_heads": COUNT,
        "head_width": COUNT,
        "window": COUNT,
        "cap": POSITIVE,
        "bias": PROJECTIONS,
    },
    m.Dropout: {"attention": CHANCE, "hidden": CHANCE, "residual": CHANCE},
    m.RelativeBias: {"buckets": COUNT, "distance": COUNT},
    m.Stack: {"layers": COUNT, "blocks": SOME, "distinct": COUNT},
    m.Learned: {"length": COUNT, "offset": AMOUNT},
    m.Sinusoidal: {"base": POSITIVE},
    m.Tokens: {"vocab": COUNT, "segments": AMOUNT, "factor": COUNT, "dropout": CHANCE},
    m.Patches: {"image": COUNT, "size": COUNT, "channels": COUNT, "dropout": CHANCE},
    m.Transform: {"width": COUNT},
    m.NextToken: {"cap": POSITIVE},
    m.Classify: {"classes": COUNT},
    m.Init: {"std": AMOUNT, "embedding": AMOUNT},
    m.Single: {"width": COUNT},
    m.Paired: {"width": COUNT},
    q.Additive: {"hidden": COUNT},
    q.Recurrent: {"layers": COUNT, "dropout": CHANCE},
    q.RecurrentWriter: {"layers": COUNT, "dropout": CHANCE},
    q.Convolutional: {"layers": COUNT, "kernel": ODD, "dropout": CHANCE},
    q.ConvolutionalWriter: {"layers": COUNT, "kernel": COUNT, "dropout": CHANCE},
    q.Recurrence: {"width": COUNT, "layers": COUNT, "dropout": CHANCE},
    q.Seq2Seq: {"width": COUNT},
    r.Text: {"source": SOME, "vocab": COUNT, "validation": INSIDE},
    r.Reversal: {
        "letters": ("must be from 2 to 26", lambda v: 2 <= v <= 26),
        "shortest": COUNT,
        "longest": COUNT,
    },
    r.Parallel: {
        "folder": SOME,
        "source": SOME,
        "target": SOME,
        "train": SOME,
        "validation": SOME,
        "vocab": COUNT,
    },
    r.MaskedText: {"source": SOME, "vocab": COUNT, "validation": INSIDE, "share": INSIDE},
    r.Labelled: {"folder": SOME, "train": SOME, "folds": SEVERAL, "vocab": COUNT},
    r.Conversations: {"source": SOME, "validation": INSIDE},
    r.LoRA: {"rank": COUNT, "alpha": POSITIVE, "dropout": CHANCE},
    r.AdamW: {"rate": AMOUNT, "betas": CHANCES, "eps": POSITIVE, "decay": AMOUNT},
    r.Muon: {"rate": AMOUNT, "momentum": CHANCE, "decay": AMOUNT},
    r.Cosine: {"warmup": AMOUNT, "floor": SHARE},
    r.StableDecay: {"warmup": AMOUNT, "decay": SHARE, "floor": SHARE},
    r.InverseSqrt: {"warmup": COUNT},
    r.Run: {
        "steps": COUNT,
        "batch": COUNT,
        "length": COUNT,
        "accumulate": COUNT,
        "clip": POSITIVE,
        "threads": AMOUNT,
        "evaluate": AMOUNT,
        "save": AMOUNT,
        "sample": AMOUNT,
        "smoothing": CHANCE,
        "average": COUNT,
        "patience": AMOUNT,
    },
    r.Recipe: {"name": ("must be a plain name: letters, digits, - _ .", lambda v: _is_plain(v))},
}


def check_model(model: m.Model, source: str = "model") -> None:
    """Raises ConfigError where a value of the model is out of range or two of them do not fit together."""
    _check(model, source, "")


def check_recipe(recipe: r.Recipe, source: str = "recipe") -> None:
    """Raises ConfigError where a value of the recipe is out of range or two of them do not fit together."""
    _check(recipe, source, "")


def _check(record: Any, source: str, path: str) -> None:
    for where, part in _walk(record, path):
        for field in fields(part):
            value = getattr(part, field.name)
            here = f"{where}.{field.name}" if where else field.name
            for number in value if isinstance(value, tuple) else (value,):
                if isinstance(number, float) and not isfinite(number):
                    raise ConfigError(f"{source}: {here}: {number} is not a finite number")
                if isinstance(number, int) and not -(2**63) <= number < 2**63:
                    raise ConfigError(f"{source}: {here}: a whole number of more than 64 bits")
            rule = RULES.get(type(part), {}).get(field.name)
            if rule and value is not None and not rule[1](value):
                raise ConfigError(f"{source}: {here}: {value!r} {rule[0]}")
        for field_name, problem in _misfits(part):
            here = f"{where}.{field_name}" if where else field_name
            raise ConfigError(f"{source}: {here}: {problem}")


def _walk(record: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The record and those inside it, each with its path."""
    yield path, record
    for field in fields(record):
        value = getattr(record, field.name)
        here = f"{path}.{field.name}" if path else field.name
        if is_dataclass(value):
            yield from _walk(value, here)
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                if is_dataclass(item):
                    yield from _walk(item, f"{here}[{index}]")


def _misfits(part: Any) -> Iterator[tuple[str, str]]:
    """Fields of a record that are each fine but not together, with what is wrong."""
    match part:
        case m.Single():
            yield from _attention_misfits(part.stack, part.width, "stack")
            yield from _crossless_misfits(part.stack, "stack", "a Single has no memory to look at")
            if isinstance(part.head, m.Classify) and part.head.pool == "first" and part.stack.sees == "past":
                yield "head.pool", "the first position of a stack that sees the past sees itself; take mean"
        case m.Paired():
            yield from _attention_misfits(part.encoder, part.width, "encoder")
            yield from _attention_misfits(part.decoder, part.width, "decoder")
            yield from _crossless_misfits(part.encoder, "encoder", "an encoder has no memory to look at")
            if all(block.cross is None for block in part.decoder.blocks):
                yield (
                    "decoder.blocks",
                    "none has `cross`: the decoder would never look at the source; give it",
                )
        case q.Seq2Seq():
            yield from _seq2seq_misfits(part)
        case m.Stack():
            yield from _stack_misfits(part)
        case m.ByParts(low=low, high=high) if low >= high:
            yield "low", f"{low} must be less than high, {high}"
        case m.Patches(image=image, size=size) if image % size:
            yield "size", f"{size} does not divide image, {image}"
        case r.Reversal(shortest=shortest, longest=longest) if shortest > longest:
            yield "shortest", f"{shortest} must be at most longest, {longest}"
        case r.Reversal(shortest=shortest, longest=longest) if longest - shortest < 2:
            yield (
                "longest",
                f"{longest} leaves no length between shortest, {shortest}, and itself to keep from training; "
                f"must be at least {shortest + 2}",
            )
        case r.Labelled(test=test, folds=folds) if bool(test) == bool(folds):
            yield (
                "test",
                f"{test!r} and {folds} folds: name a file of test sentences, or give folds, not both",
            )
        case r.Labelled(folds=folds, fold=fold) if not min(folds, 1) <= fold <= folds:
            yield "fold", f"{fold} is none of {folds} folds: they count from 1; 0 where there are none"
        case r.Recipe():
            yield from _recipe_misfits(part)
        case r.Run(batch=batch, accumulate=parts) if batch % parts:
            yield "accumulate", f"{parts} does not divide batch, {batch}"
        case r.Run(average=average, patience=patience) if average > 1 and patience:
            yield (
                "average",
                f"{average} checkpoints, or the best one by patience {patience}: give one of the two",
            )
        case r.Run(average=average, save=0) if average > 1:
            yield "average", f"{average} checkpoints are averaged, but none is saved on the way: give save"
        case r.Run(patience=patience, evaluate=0) if patience:
            yield "patience", f"{patience} evaluations are waited for, but none is made: give evaluate"


def _recipe_misfits(recipe: r.Recipe) -> Iterator[tuple[str, str]]:
    if recipe.model is None and not recipe.start:
        yield "model", "missing; Recipe needs it, or a start whose model it takes"
    if recipe.model is not None and recipe.head is not None:
        yield "head", "stands in model already; leave one of the two out"
    if recipe.adapter is not None and not recipe.start:
        yield "adapter", "is trained beside weights that stand still; give the start that they come from"
    if recipe.adapter is not None and recipe.frozen:
        yield "frozen", "beside an adapter all stands still but adapter.whole; leave frozen out"
    if isinstance(recipe.data, r.Conversations) and not recipe.start:
        yield "start", "missing; Conversations are rendered by the chat template of the model it begins with"


def _seq2seq_misfits(pair: q.Seq2Seq) -> Iterator[tuple[str, str]]:
    reader, writer = pair.encoder, pair.decoder
    match writer:
        case q.ConvolutionalWriter() if isinstance(reader, q.Recurrent):
            yield "encoder", "a ConvolutionalWriter needs the vectors of a Convolutional reader"
        case q.RecurrentWriter(look=look) if isinstance(reader, q.Convolutional):
            yield "encoder", f"{type(look).__name__} starts from the states of a Recurrent reader"
        case q.RecurrentWriter(look=q.LastState() | q.Summary() | q.Multiplicative() as look):
            if not isinstance(reader, q.Recurrent):
                return
            name = type(look).__name__
            if reader.reads == "both" and look == q.Multiplicative("dot"):
                yield "decoder.look.form", "dot needs equal widths; take general, or encoder.reads forward"
            for field in ("cell", "layers"):
                own, other = getattr(reader, field), getattr(writer, field)
                if own != other:
                    yield (
                        f"decoder.{field}",
                        f"{name} starts layer by layer from the encoder: must be its {own}, not {other}",
                    )


def _stack_misfits(stack: m.Stack) -> Iterator[tuple[str, str]]:
    layers, distinct, blocks = stack.layers, stack.distinct, len(stack.blocks)
    if layers < blocks:
        yield (
            "layers",
            f"{layers} leaves out blocks[{layers}]; must be at least {blocks}, one for each of blocks",
        )
    if distinct is not None and distinct > layers:
        yield "distinct", f"{distinct} must be at most layers, {layers}"
    if distinct is not None and distinct < blocks:
        yield (
            "distinct",
            f"{distinct} leaves out blocks[{distinct}]; must be at least {blocks}, one for each of blocks",
        )
    heads = {block.mixer.heads for block in stack.blocks if isinstance(block.mixer, m.Attention)}
    if stack.bias is not None and len(heads) > 1:
        yield "bias", "is one for all blocks, which have unlike heads; give them as many, or leave bias out"
    if isinstance(stack.bias, m.RelativeBias):
        least = 4 if stack.sees == "all" else 2  # half of them look forward, half of a side are exact
        exact = stack.bias.buckets // least
        if not exact:
            yield (
                "bias.buckets",
                f"{stack.bias.buckets} must be at least {least} where a stack sees {stack.sees}",
            )
        elif stack.bias.distance <= exact:
            yield (
                "bias.distance",
                f"{stack.bias.distance} must be more than {exact}, the distances with a bucket of their own",
            )


def _crossless_misfits(stack: m.Stack, path: str, why: str) -> Iterator[tuple[str, str]]:
    for index, block in enumerate(stack.blocks):
        if block.cross is not None:
            yield f"{path}.blocks[{index}].cross", f"{why}; leave it out"


def _attention_misfits(stack: m.Stack, width: int, path: str) -> Iterator[tuple[str, str]]:
    for index, block in enumerate(stack.blocks):
        for name, part in (("mixer", block.mixer), ("cross", block.cross)):
            if not isinstance(part, m.Attention):
                continue
            here = f"{path}.blocks[{index}].{name}"
            if part.head_width is None and width % part.heads:
                yield f"{here}.heads", f"{part.heads} does not divide width, {width}; or give head_width"
            if part.kv_heads is not None and part.heads % part.kv_heads:
                yield f"{here}.kv_heads", f"{part.kv_heads} does not divide heads, {part.heads}"
            if part.rotary is not None:
                rotated = int((part.head_width or width // part.heads) * part.rotary.fraction)
                if rotated < 2 or rotated % 2:
                    yield f"{here}.rotary.fraction", f"rotates {rotated} numbers of a head; must be even"
            if name == "cross" and part.rotary is not None:
                yield f"{here}.rotary", "memory has no positions of the decoder's to turn by; leave it out"
            if name == "cross" and part.window is not None:
                yield f"{here}.window", "the whole memory is looked at; leave it out"


def _is_plain(name: str) -> bool:
    return name.isprintable() and name.strip(".") != "" and all(c.isalnum() or c in "-_." for c in name)
