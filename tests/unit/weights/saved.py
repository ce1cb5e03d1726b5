"""A small run on disk, written with the trainer's own writers."""

import json
from pathlib import Path

import safetensors.torch
import torch

from cutaway import spec, store
from cutaway.data.tokenizer import Tokenizer, byte_tokenizer
from cutaway.models import build
from cutaway.spec.write import write_model, write_recipe

MODEL = spec.small(2, 16, 2, vocab=257)


def save_run(
    run: Path,
    steps: tuple[int, ...] = (5, 10),
    model: spec.Model = MODEL,
    tokenizer: Tokenizer | None = None,
    data: spec.Data | None = None,
    length: int = 8,
) -> Path:
    """A run whose checkpoint at step n holds the initial weights of seed n."""
    recipe = spec.Recipe(
        "tiny", model, data or spec.Text(("text.txt",), tokenizer="bytes"), spec.Run(length=length)
    )
    store.write_file(run / "spec.json", json.dumps(write_model(model)).encode())
    store.write_file(run / "recipe.toml", write_recipe(recipe).encode())
    tokenizer = tokenizer or byte_tokenizer()
    store.write_file(run / "tokenizer.json", tokenizer.to_json().encode())
    store.write_file(run / "facts.json", json.dumps({"tokenizer": tokenizer.digest}).encode())
    for step in steps:
        save_checkpoint(run, step, dict(build(model, seed=step).named_parameters()))
    return run


def save_checkpoint(run: Path, step: int, tensors: dict[str, torch.Tensor]) -> Path:
    def fill(folder: Path) -> None:
        kept = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        safetensors.torch.save_file(kept, folder / "model.safetensors")
        safetensors.torch.save_file({"momentum": torch.zeros(3)}, folder / "training.safetensors")
        (folder / "state.json").write_text(json.dumps({"format": 1, "done": step}))

    target = run / "checkpoints" / f"step-{step:06d}"
    store.write_folder(target, fill)
    return target
