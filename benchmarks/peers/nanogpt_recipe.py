"""nanoGPT's published CPU recipe for shakespeare_char: its own unmodified scripts in a copy of the checkout.

`train.py` prints the milliseconds of every iteration. It evaluates before iteration 0 and before the last one
only (`--eval_interval` is the number of steps), so the training time is the sum over the iterations between,
plus their median for iteration 0. The checkpoint it writes before the last iteration holds exactly `steps`
updates. Its fixed seed is replaced from outside, by giving `torch.manual_seed` another number.
"""

import contextlib
import io
import os
import re
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.peers.nanogpt import checkout


def shakespeare(text: str, seed: int, window: int, steps: int) -> Callable[[], dict]:
    def train() -> dict:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "nanogpt"
            shutil.copytree(
                checkout(), copy, ignore=shutil.ignore_patterns(".git", "assets", "*.bin", "out*")
            )
            shutil.copyfile(text, copy / "data" / "shakespeare_char" / "input.txt")
            return follow_recipe(copy, seed, window, steps)

    return train


def follow_recipe(copy: Path, seed: int, window: int, steps: int) -> dict:
    run_script(copy, "data/shakespeare_char/prepare.py", [])
    options = dict(
        device="cpu", compile=False, eval_iters=20, log_interval=1, block_size=window, batch_size=12
    )
    options |= dict(n_layer=4, n_head=4, n_embd=128, max_iters=steps, lr_decay_iters=steps, dropout=0.0)
    arguments = [f"--{key}={value}" for key, value in (options | {"eval_interval": steps}).items()]
    original = torch.manual_seed
    torch.manual_seed = lambda _: original(seed)
    try:
        printed = run_script(copy, "train.py", ["config/train_shakespeare_char.py", *arguments])
    finally:
        torch.manual_seed = original
    times = [
        float(ms) / 1e3
        for ms in re.findall(r"^iter \d+: loss [\d.]+, time ([\d.]+)ms", printed, re.MULTILINE)
    ]
    between = times[1:steps]
    checkpoint = torch.load(copy / "out-shakespeare-char" / "ckpt.pt", weights_only=True)
    assert checkpoint["iter_num"] == steps, checkpoint["iter_num"]
    return {
        "training_seconds": sum(between) + median(between),
        "validation_loss": whole_text_loss(
            checkpoint, copy / "data" / "shakespeare_char" / "val.bin", window
        ),
        "tokens": steps * 12 * window,
    }


def run_script(copy: Path, script: str, arguments: list[str]) -> str:
    """What the script prints; it runs as `python script arguments` would, inside the copy."""
    before, argv, path = os.getcwd(), sys.argv, list(sys.path)
    os.chdir(copy)
    sys.argv, sys.path[:0] = [script, *arguments], [str(copy)]
    try:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            runpy.run_path(script, run_name="__main__")
        return printed.getvalue()
    finally:
        os.chdir(before)
        sys.argv, sys.path[:] = argv, path


def whole_text_loss(checkpoint: dict, validation: Path, window: int) -> float:
    """Mean loss of every character but the first, in windows that do not overlap."""
    from model import GPT, GPTConfig

    model = GPT(GPTConfig(**checkpoint["model_args"])).eval()
    model.load_state_dict(checkpoint["model"])
    ids = torch.from_numpy(np.fromfile(validation, dtype=np.uint16).astype(np.int64))
    whole = (len(ids) - 1) // window * window
    inputs, targets = ids[:whole].view(-1, window), ids[1 : whole + 1].view(-1, window)
    total = 0.0
    with torch.no_grad():
        for x, y in zip(inputs.split(64), targets.split(64), strict=True):
            total += model(x, y)[1].item() * y.numel()
        if whole < len(ids) - 1:
            rest = len(ids) - 1 - whole
            total += model(ids[None, whole:-1], ids[None, whole + 1 :])[1].item() * rest
    return total / (len(ids) - 1)
