"""Hugging Face transformers with a real model out of a GGUF file, in the modes its users have."""

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

KINDS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def opened(path: str, precision: str) -> PreTrainedModel:
    """The model, weights turned back into `precision`; it ends at no token."""
    file = Path(path)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=KINDS[precision])
    model.generation_config.eos_token_id = None
    return model.eval()


def decoding(path: str, precision: str, mode: str, prompt: list[int], new: int) -> Callable[[], list[int]]:
    """Its `generate`, greedy; returns the new tokens.

    `mode` is "dynamic cache" (the default), "dynamic cache, compiled" or "static cache" (compiled by its own
    settings).
    """
    model = opened(path, precision)
    start = torch.tensor([prompt])
    asked = dict(max_new_tokens=new, do_sample=False, pad_token_id=0)
    if mode == "static cache":
        from transformers import CompileConfig

        compiler = CompileConfig(fullgraph=False, mode="default")
        compiler._compile_all_devices = True  # without it `generate` compiles on GPUs only
        asked |= dict(cache_implementation="static", compile_config=compiler)
    elif mode == "dynamic cache, compiled":
        model.forward = torch.compile(model.forward, dynamic=True)

    def generate() -> list[int]:
        with torch.inference_mode():
            rows = model.generate(start, attention_mask=torch.ones_like(start), **asked)
        return rows[0, len(prompt) :].tolist()

    return generate


def reading(path: str, precision: str, mode: str, prompt: list[int]) -> Callable[[], list[int]]:
    """The prompt is read into a cache; returns the one token that comes next. `mode` is eager or compiled."""
    model = opened(path, precision)
    run = torch.compile(model) if mode == "compiled" else model
    start = torch.tensor([prompt])

    def read() -> list[int]:
        with torch.inference_mode():
            return [int(run(start, use_cache=True, logits_to_keep=1).logits[0, -1].argmax())]

    return read
