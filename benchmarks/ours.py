"""Our side of every benchmark: jobs as in `benchmarks.peers`, run in the main environment."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from benchmarks import recipe, sentences
from benchmarks.shape import Shape, batches
from cutaway import spec, study
from cutaway.allocator import keep_large_buffers
from cutaway.generate import Decoding, Sampling
from cutaway.generate.beam import translate_ids
from cutaway.generate.compiled import compile_steps
from cutaway.models import AnyModel, Paired, Single, build, sites
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import find_recipe
from cutaway.train.choose import compile_blocks
from cutaway.train.loop import Training
from cutaway.train.loss import Batch, next_token_loss
from cutaway.train.optim import Optimizers
from cutaway.train.precision import Working
from cutaway.train.request import train_recipe


def model_of(shape: Shape, length: int | None = None) -> Single:
    """The preset gpt2 at this shape, random weights, in training mode."""
    model = build(spec.gpt2(shape.layers, shape.width, shape.heads, shape.vocab, length or shape.length))
    assert isinstance(model, Single)
    return model


class Rows:
    """The batches every side trains on, as the loop asks for them."""

    def __init__(self, shape: Shape):
        self.rows = torch.tensor(batches(shape, recipe.BATCHES))

    def parts(self, step: int) -> list[Batch]:
        rows_BL = self.rows[step % len(self.rows)]
        return [Batch((rows_BL[:, :-1],), rows_BL[:, 1:])]

    def loss(self, model: AnyModel, batch: Batch, total: int) -> Tensor:
        return next_token_loss(model, batch, total)

    def example_ids(self, step: int) -> list[int]:
        return list(range(self.rows.size(1)))


def training_step(
    shape: dict, precision: str, compiled: bool, weights: str | None = None
) -> Callable[[], float]:
    """One step of `Training` on the next of the batches, set up as `Runner` does; returns its loss.

    `precision` is fp32 or bf16 (a working copy; masters stay fp32); `weights` is a file of initial values in
    Hugging Face's GPT-2 layout.
    """
    keep_large_buffers()
    sizes = Shape(**shape)
    model = model_of(sizes)
    if weights is not None:
        adopt(model, load_file(weights))
    working = Working(model, torch.bfloat16 if precision == "bf16" else torch.float32)
    if compiled:
        compile_blocks(working.model)
    plan = spec.AdamW(recipe.LEARNING_RATE, recipe.BETAS, decay=recipe.WEIGHT_DECAY)
    run = spec.Run(
        steps=10**9,  # so that the rate stays flat after the warm-up
        batch=sizes.batch,
        length=sizes.length,
        clip=recipe.CLIP,
        optimizer=plan,
        schedule=spec.StableDecay(recipe.WARM_UP_STEPS, decay=0.0),
    )
    training = Training(working, Rows(sizes), Optimizers(model, plan, working.dtype), run)
    working.refresh()
    return lambda: training.advance().loss.item()


def shakespeare(text: str, seed: int, window: int) -> Callable[[], dict]:
    """Trains the recipe `shakespeare-small` on the file `text` and scores the whole validation text.

    `training_seconds` is the sum over the steps, compilation included; data, the choice of precision,
    evaluations and checkpoints are outside, as they are for the peer. `validation_loss` is in nats a
    character: windows of `window` that do not overlap, every character but the first scored once.
    """
    plan = read_recipe(find_recipe("shakespeare-small"))
    assert isinstance(plan.data, spec.Text) and plan.run.length == window
    plan = replace(plan, data=replace(plan.data, source=(text,)))

    def train() -> dict:
        with tempfile.TemporaryDirectory() as folder:
            result = train_recipe(plan, out=Path(folder) / "run", seed=seed, device="cpu")  # as the peer
        return {
            "training_seconds": result.counters["seconds"],
            "validation_loss": result.figures["validation"],
            "tokens": int(result.counters["tokens"]),
        }

    return train


def forward_pass(shape: dict, precision: str, record: str) -> Callable[[], int]:
    """One pass over one batch; `record` is nothing, all but scores and pattern, or every site.

    Returns how many tensors were kept.
    """
    sizes = Shape(**shape)
    model = model_of(sizes).eval()
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    rows_BL = torch.tensor(batches(sizes, 1)[0])[:, :-1].contiguous()
    keep = list(sites(model.plan))
    if record == "all but scores and pattern":
        keep = [name for name in keep if not name.endswith((".scores", ".pattern"))]

    def plain() -> int:
        with torch.no_grad():
            model(rows_BL)
        return 0

    def traced() -> int:
        return len(study.trace(model, rows_BL, keep))

    return plain if record == "nothing" else traced


def decoding(shape: dict, precision: str, prompt: int, new: int) -> Callable[[], int]:
    """Greedy decoding of `new` tokens after `prompt` given ones, compiled for one row; returns a row's length
    at the end.
    """
    sizes = Shape(**shape)
    model = model_of(sizes, prompt + new).eval()
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    compile_steps(model)
    prompts = [row[:prompt] for row in batches(sizes, 1)[0]]

    def generate() -> int:
        rows = Decoding(model, prompts, max_tokens=new, sampling=Sampling(temperature=0))
        for _ in range(new):
            rows.advance()
        return prompt + new

    return generate


def adopt(model: Single, theirs: dict[str, Tensor]) -> None:
    """Copy weights in Hugging Face's GPT-2 layout: matrices transposed, q, k and v side by side."""
    own = dict(model.named_parameters())

    def copy(name: str, source: str, third: int | None = None) -> None:
        for kind in ("weight", "bias"):
            values = theirs[f"transformer.{source}.{kind}"]
            values = values.T if "c_" in source and kind == "weight" else values
            own.pop(f"{name}.{kind}").data.copy_(values if third is None else values.chunk(3)[third])

    for name, source in (("input.token.weight", "wte.weight"), ("input.position.weight", "wpe.weight")):
        own.pop(name).data.copy_(theirs[f"transformer.{source}"])
    copy("final_norm", "ln_f")
    for depth in range(model.layers):
        mine, other = f"blocks.{depth}", f"h.{depth}"
        for third, projection in enumerate(("query", "key", "value")):
            copy(f"{mine}.attn.{projection}", f"{other}.attn.c_attn", third)
        copy(f"{mine}.attn.out", f"{other}.attn.c_proj")
        copy(f"{mine}.ffn.up", f"{other}.mlp.c_fc")
        copy(f"{mine}.ffn.down", f"{other}.mlp.c_proj")
        copy(f"{mine}.mixer_norm", f"{other}.ln_1")
        copy(f"{mine}.ffn_norm", f"{other}.ln_2")
    assert not own, f"no values for {sorted(own)}"


def translating(shape: dict, weights: str) -> Callable[[], list[list[int]]]:
    """Beam search over the sentences, a batch a call; returns what was written, without the end."""
    keep_large_buffers()
    sizes = sentences.Translator(**shape)
    model = marian(sizes)
    adopt_marian(model, load_file(weights))
    asked = dict(begin=sizes.pad, end=sentences.END, beam=sentences.BEAM, max_tokens=sizes.max_tokens)
    forbidden = (sentences.UNKNOWN, sizes.pad)

    def translate() -> list[list[int]]:
        written = []
        for rows in sentences.batches(sizes):
            found = translate_ids(model, rows, forbidden=forbidden, **asked)
            written += [list(best.tokens[: len(best.tokens) - best.ended]) for best, *_ in found]
        return written

    return translate


def marian(shape: sentences.Translator) -> Paired:
    """The 2017 transformer as Marian has it: sines and cosines side by side, a bias on the vocabulary."""
    plan = spec.vaswani(shape.layers, shape.width, shape.heads, shape.hidden, shape.vocab, dropout=0.0)
    position = spec.Sinusoidal(layout="halves")
    source = spec.Tokens(shape.vocab, position, scale=shape.width**0.5)
    model = build(replace(plan, source=source, head=spec.NextToken(bias=True))).eval()
    assert isinstance(model, Paired)
    return model


def adopt_marian(model: Paired, theirs: dict[str, Tensor]) -> None:
    """Copy weights in Hugging Face's Marian layout."""
    own = dict(model.named_parameters())
    own.pop("source.token.weight").data.copy_(theirs["model.shared.weight"])
    own.pop("head.bias").data.copy_(theirs["final_logits_bias"][0])
    parts = {"ffn.up": "fc1", "ffn.down": "fc2", "mixer_norm": "self_attn_layer_norm"}
    parts |= {"cross_norm": "encoder_attn_layer_norm", "ffn_norm": "final_layer_norm"}
    for mine, other in (("attn", "self_attn"), ("cross", "encoder_attn")):
        projections = (("query", "q"), ("key", "k"), ("value", "v"), ("out", "out"))
        parts |= {f"{mine}.{long}": f"{other}.{short}_proj" for long, short in projections}
    for name in list(own):
        side, _, depth, *part, kind = name.split(".")
        source = f"model.{side}.layers.{depth}.{parts['.'.join(part)]}.{kind}"
        own.pop(name).data.copy_(theirs[source])
