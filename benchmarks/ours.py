"""Our side of every benchmark: jobs as in `benchmarks.peers`, run in the main environment."""

from collections.abc import Callable
from itertools import cycle

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from benchmarks import recipe
from benchmarks.shape import Shape, batches
from cutaway import spec
from cutaway.models import Single, build, sites
from cutaway.tap import Recorder

NOT_LIGHT = ("scores", "pattern")


def model_of(shape: Shape, length: int | None = None) -> Single:
    """The preset gpt2 at this shape, random weights, in training mode."""
    length = length or shape.length
    model = build(spec.gpt2(shape.layers, shape.width, shape.heads, shape.vocab, length))
    assert isinstance(model, Single)
    return model


def training_step(
    shape: dict, precision: str, compiled: bool, weights: str | None = None
) -> Callable[[], float]:
    """One step on the next of `batches` with the settings of `benchmarks.recipe`; returns its loss.
    loss.

    `precision` is fp32 or bf16 (what Cutaway does for it: masters stay fp32); `weights` is a file of initial
    values in Hugging Face's GPT-2 layout.
    """
    sizes = Shape(**shape)
    model = model_of(sizes)
    if weights is not None:
        adopt(model, load_file(weights))
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": recipe.WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.LEARNING_RATE, betas=recipe.BETAS, fused=True)
    run = torch.compile(model) if compiled else model
    supply = cycle(torch.tensor(batches(sizes, recipe.BATCHES)))
    done = 0

    def step() -> float:
        nonlocal done
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(done)
        rows = next(supply)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            logits_BLV = run(rows[:, :-1].contiguous())
            loss = F.cross_entropy(logits_BLV.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1
        return loss.item()

    return step


def shakespeare(text: str, seed: int, window: int) -> Callable[[], dict]:
    """Trains the recipe `shakespeare-small` on the file `text` and scores the whole validation text.

    Returns `training_seconds` (steps and compilation; no evaluation, no import), `validation_loss` (nats a
    character, windows of `window` that do not overlap, every character but the first scored once) and
    `tokens` (trained on).
    """
    raise NotImplementedError("ours: call cutaway's training of recipes/shakespeare-small here")


def forward_pass(shape: dict, precision: str, record: str) -> Callable[[], int]:
    """One pass over one batch; `record` is nothing, all but scores and pattern, or every site.

    Returns how many tensors were kept.
    """
    sizes = Shape(**shape)
    model = model_of(sizes).eval()
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    rows = torch.tensor(batches(sizes, 1)[0])[:, :-1].contiguous()
    keep = [] if record == "nothing" else list(sites(model.plan))
    if record == "all but scores and pattern":
        keep = [name for name in keep if name.rpartition(".")[2] not in NOT_LIGHT]

    def run() -> int:
        with torch.inference_mode():
            if not keep:
                model(rows)
                return 0
            recorder = Recorder(keep)
            model(rows, tap=recorder)
            return len(recorder.seen)

    return run


def decoding(shape: dict, precision: str, prompt: int, new: int) -> Callable[[], int]:
    """Greedy decoding of `new` tokens after `prompt` given ones; returns the length of a row at the end."""
    sizes = Shape(**shape)
    model = model_of(sizes, prompt + new).eval()
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    start = torch.tensor(batches(sizes, 1)[0])[:, :prompt].contiguous()

    def generate() -> int:
        with torch.inference_mode():
            state, tokens_BL = model.start(), start
            for _ in range(new):
                logits_BLV = model.step(tokens_BL if state.length == 0 else tokens_BL[:, -1:], state)
                tokens_BL = torch.cat([tokens_BL, logits_BLV[:, -1:].argmax(-1)], dim=1)
        return tokens_BL.size(1)

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
