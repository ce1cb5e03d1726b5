"""Hugging Face GPT2LMHeadModel with random weights, in the modes its users have."""

from collections.abc import Callable
from contextlib import nullcontext
from itertools import cycle

import torch
from safetensors.torch import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel

from benchmarks import recipe
from benchmarks.shape import Shape, batches


def build(shape: Shape, length: int | None = None) -> GPT2LMHeadModel:
    """GPT-2 from its configuration, scaled-dot-product attention, dropout 0 as everywhere here."""
    torch.manual_seed(0)
    sizes = dict(n_layer=shape.layers, n_head=shape.heads, n_embd=shape.width, vocab_size=shape.vocab)
    drop = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    ends = dict(bos_token_id=None, eos_token_id=None)
    config = GPT2Config(
        n_positions=length or shape.length, attn_implementation="sdpa", **sizes, **drop, **ends
    )
    return GPT2LMHeadModel(config)


def initial_weights(shape: dict, path: str) -> Callable[[], int]:
    """Writes the initial weights that every side of a loss-curve comparison starts from."""

    def write() -> int:
        state = build(Shape(**shape)).state_dict()
        state.pop("lm_head.weight")  # tied
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        return len(state)

    return write


def training_step(
    shape: dict, precision: str, compiled: bool, weights: str | None = None
) -> Callable[[], float]:
    """One step with fused AdamW, its Trainer's default; `precision`: fp32, autocast or bf16 (weights too)."""
    sizes = Shape(**shape)
    model = build(sizes).train()
    if weights is not None:
        left_out = model.load_state_dict(load_file(weights), strict=False)
        assert left_out.missing_keys == ["lm_head.weight"], left_out
    if precision == "bf16":
        model = model.to(torch.bfloat16)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": decayed, "weight_decay": recipe.WEIGHT_DECAY},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=recipe.LEARNING_RATE, betas=recipe.BETAS, fused=True)
    run = torch.compile(model) if compiled else model
    context = torch.amp.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext()
    supply = cycle(torch.tensor(batches(sizes, recipe.BATCHES)))
    done = 0

    def step() -> float:
        nonlocal done
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(done)
        rows = next(supply)
        targets = rows[:, 1:].contiguous()
        with context:
            loss = run(rows[:, :-1].contiguous(), labels=targets, shift_labels=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1
        return loss.item()

    return step


def forward_pass(shape: dict, precision: str) -> Callable[[], int]:
    """The plain pass over one batch, logits of every position; returns how many tensors were kept."""
    sizes = Shape(**shape)
    model = build(sizes).eval()
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    rows = torch.tensor(batches(sizes, 1)[0])[:, :-1].contiguous()

    def run() -> int:
        with torch.inference_mode():
            model(rows, use_cache=False)
        return 0

    return run


def decoding(shape: dict, precision: str, cache: str, prompt: int, new: int) -> Callable[[], int]:
    """Its `generate`, greedy; `cache` is dynamic (the default) or static (compiled by its own settings)."""
    sizes = Shape(**shape)
    model = build(sizes, prompt + new).eval()
    model = model.to(torch.bfloat16) if precision == "bf16" else model
    start = torch.tensor(batches(sizes, 1)[0])[:, :prompt].contiguous()
    asked = dict(max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0)
    if cache == "static":
        from transformers import CompileConfig

        compiler = CompileConfig(fullgraph=False, mode="default")
        compiler._compile_all_devices = True  # without it `generate` compiles on GPUs only
        asked |= dict(cache_implementation="static", compile_config=compiler)

    def generate() -> int:
        with torch.inference_mode():
            return model.generate(start, attention_mask=torch.ones_like(start), **asked).size(1)

    return generate
