"""nanoGPT's own model, optimizer and training script, from a checkout that stays as it is."""

import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from itertools import cycle

import torch

from benchmarks import recipe
from benchmarks.shape import Shape, batches


def checkout() -> str:
    return os.environ["NANOGPT"]


def build(shape: Shape, length: int | None = None) -> torch.nn.Module:
    """Its model as its train.py makes it: vocabulary padded to a multiple of 64, no biases."""
    sys.path.insert(0, checkout())
    from model import GPT, GPTConfig

    torch.manual_seed(0)
    vocab = -(-shape.vocab // 64) * 64
    sizes = dict(
        n_layer=shape.layers, n_head=shape.heads, n_embd=shape.width, block_size=length or shape.length
    )
    return GPT(GPTConfig(vocab_size=vocab, dropout=0.0, bias=False, **sizes))


def training_step(shape: dict, precision: str, compiled: bool) -> Callable[[], float]:
    """The body of its training loop; `precision` is fp32 or autocast, which its train.py keeps for GPUs."""
    sizes = Shape(**shape)
    model = build(sizes)
    optimizer = model.configure_optimizers(recipe.WEIGHT_DECAY, recipe.LEARNING_RATE, recipe.BETAS, "cpu")
    run = torch.compile(model) if compiled else model
    context = torch.amp.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext()
    supply = cycle(torch.tensor(batches(sizes, recipe.BATCHES)))
    done = 0

    def step() -> float:
        nonlocal done
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(done)
        rows = next(supply)
        with context:
            _, loss = run(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        done += 1
        return loss.item()

    return step


def decoding(shape: dict, precision: str, prompt: int, new: int) -> Callable[[], int]:
    """Its `generate`, greedy by `top_k=1`; it keeps no cache."""
    sizes = Shape(**shape)
    model = build(sizes, prompt + new).eval()
    context = torch.amp.autocast("cpu", torch.bfloat16) if precision == "autocast" else nullcontext()
    start = torch.tensor(batches(sizes, 1)[0])[:, :prompt]

    def generate() -> int:
        with context:
            return model.generate(start, new, top_k=1).size(1)

    return generate
