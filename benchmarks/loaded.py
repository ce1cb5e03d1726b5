"""Our side of the benchmarks and comparisons with real models, run in the main environment."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import cutaway
from cutaway.generate import Decoding, Sampling
from cutaway.models import Single


def decoding(path: str, precision: str, prompt: list[int], new: int) -> Callable[[], list[int]]:
    """Greedy decoding of `new` tokens behind `prompt`, whatever they are, compiled; returns them."""
    session = cutaway.load(path, dtype=precision).compile()
    model = session.model
    assert isinstance(model, Single)
    return lambda: written(model, prompt, new)


def reading(path: str, precision: str, prompt: list[int]) -> Callable[[], list[int]]:
    """The prompt is read; returns the one token that comes next."""
    model = cutaway.load(path, dtype=precision).model
    assert isinstance(model, Single)
    return lambda: written(model, prompt, 1)


def tokenising(path: str, texts: list[str]) -> Callable[[], list[list[int]]]:
    """The tokens of each text, with nothing around them."""
    tokenizer = cutaway.load(path).tokenizer
    return lambda: [tokenizer.encode(text).tolist() for text in texts]


def following(path: str, prompts: list[list[int]], folder: str) -> Callable[[], list[int]]:
    """One prompt a call: the logits at each of the tokens that stand in the folder, in fp32 and with a cache.

    They are left in the folder. Returns what our own greedy decoding writes behind the prompt.
    """
    model, left = cutaway.load(path, dtype="fp32").model, iter(prompts)
    assert isinstance(model, Single)

    @torch.inference_mode()
    def follow() -> list[int]:
        prompt, tokens = next(left), json.loads(Path(folder, "tokens.json").read_text())
        state = model.start()
        rows = [model.step(torch.tensor([prompt]), state)[0, -1]]
        rows += [model.step(torch.tensor([[token]]), state)[0, -1] for token in tokens[:-1]]
        np.save(Path(folder, "ours.npy"), torch.stack(rows).numpy())
        return written(model, prompt, len(tokens))

    return follow


def written(model: Single, prompt: list[int], new: int) -> list[int]:
    rows = Decoding(model, [prompt], max_tokens=new, sampling=Sampling(temperature=0))
    return [rows.advance()[0][0] for _ in range(new)]


def embedding(path: str, texts: list[str]) -> Callable[[], list[list[float]]]:
    """The vector of each text: the mean over its tokens, of length one."""
    session = cutaway.load(path)
    return lambda: session.embed(texts).tolist()
