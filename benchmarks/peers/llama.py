"""llama.cpp by llama-cpp-python, on a GGUF file as it is: quantised weights, activations rounded to 8 bits.

Its tokens are chosen here from its logits, which costs less than its samplers do.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import Llama

READ_AT_ONCE = 512


def opened(path: str, length: int, threads: int, **choices: Any) -> Llama:
    """The model with room for `length` tokens; `choices` are those of `Llama`."""
    return Llama(
        path,
        n_ctx=length,
        n_batch=READ_AT_ONCE,
        n_ubatch=READ_AT_ONCE,
        n_threads=threads,
        n_threads_batch=threads,
        verbose=False,
        **choices,
    )


def after(llama: Llama, tokens: list[int]) -> np.ndarray:
    """The logits behind more tokens, a view (V,) that holds until the next ones are read."""
    llama.eval(tokens)
    return np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), shape=(llama.n_vocab(),))


def decoding(path: str, prompt: list[int], new: int, threads: int, flash: bool) -> Callable[[], list[int]]:
    """Greedy decoding of `new` tokens behind `prompt`, whatever they are; `flash` is its flash attention."""
    llama = opened(path, len(prompt) + new, threads, flash_attn=flash)

    def write() -> list[int]:
        llama.reset()
        found = [int(after(llama, prompt).argmax())]
        while len(found) < new:
            found.append(int(after(llama, found[-1:]).argmax()))
        return found

    return write


def reading(path: str, prompt: list[int], threads: int, flash: bool) -> Callable[[], list[int]]:
    """The prompt is read; returns the one token that comes next."""
    return decoding(path, prompt, 1, threads, flash)


def tokenising(path: str, texts: list[str]) -> Callable[[], list[list[int]]]:
    """The tokens of each text, with nothing around them."""
    llama = Llama(path, vocab_only=True, verbose=False)
    return lambda: [llama.tokenize(text.encode(), add_bos=False, special=False) for text in texts]


def writing(
    path: str, prompts: list[list[int]], new: int, folder: str, threads: int
) -> Callable[[], list[int]]:
    """One prompt a call: its greedy tokens, as its users get them; the logits are left in the folder."""
    llama, left = opened(path, max(map(len, prompts)) + new, threads), iter(prompts)

    def write() -> list[int]:
        llama.reset()
        rows = [after(llama, next(left)).copy()]
        while len(rows) < new:
            rows.append(after(llama, [int(rows[-1].argmax())]).copy())
        np.save(Path(folder, "theirs.npy"), np.stack(rows))
        return [int(row.argmax()) for row in rows]

    return write


def following(path: str, prompts: list[list[int]], new: int, folder: str, threads: int) -> Callable[[], int]:
    """One prompt a call: the logits at each of the tokens that stand in the folder, with a cache in fp32.

    They are left in the folder. Returns how many there are.
    """
    whole = dict(type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32)
    llama, left = opened(path, max(map(len, prompts)) + new, threads, **whole), iter(prompts)

    def follow() -> int:
        tokens = json.loads(Path(folder, "tokens.json").read_text())
        llama.reset()
        rows = [after(llama, next(left)).copy()]
        rows += [after(llama, [token]).copy() for token in tokens[:-1]]
        np.save(Path(folder, "full.npy"), np.stack(rows))
        return len(rows)

    return follow
