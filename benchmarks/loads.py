"""Jobs of `loading`: one model, loaded once in a fresh process, by us and by transformers.

What is imported is imported inside of the jobs: its time and memory are part of what they measure.
"""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.child import surroundings

TOKENS = list(range(5, 21))  # a short text: every weight is read once


def fresh(bring: Callable[[], Callable[[], Any]]) -> Callable[[], dict]:
    """A job for one call: `bring` imports and returns what loads; then the model reads `TOKENS` once.

    It returns the seconds of the three, the largest resident memory in bytes after each of the last two, what
    was imported that costs, and what the process runs on.
    """

    def run() -> dict:
        clock = [time.perf_counter()]
        load = bring()
        clock.append(time.perf_counter())
        model = load()
        clock.append(time.perf_counter())
        loaded = peak_bytes()
        import torch

        with torch.inference_mode():
            model(torch.tensor([TOKENS]))
        clock.append(time.perf_counter())
        return {
            "import_seconds": clock[1] - clock[0],
            "load_seconds": clock[2] - clock[1],
            "pass_seconds": clock[3] - clock[2],
            "ready_seconds": clock[3] - clock[0],
            "loaded_bytes": loaded,
            "peak_bytes": peak_bytes(),
            "transformers": "transformers" in sys.modules,
            "on": surroundings(),
        }

    return run


def peak_bytes() -> int:
    """The high-water mark of resident memory, mapped files included.

    Not getrusage: its figure outlives exec, so that a child begins with that of the process it came from.
    """
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    assert found is not None, "this kernel does not tell VmHWM"
    return int(found[1]) * 1024


def our_model(path: str) -> Callable[[], dict]:
    """The model alone."""

    def bring() -> Callable[[], Any]:
        from cutaway.weights.folder import read_folder
        from cutaway.weights.single_file import read_model, recognise

        if Path(path).is_file():
            return lambda: read_model(recognise(path)).model
        return lambda: read_folder(path).model

    return fresh(bring)


def our_session(path: str) -> Callable[[], dict]:
    """What `cutaway.load` gives: model, tokenizer, chat template."""

    def bring() -> Callable[[], Any]:
        from cutaway import load

        return lambda: load(path).model

    return fresh(bring)


def their_model(path: str) -> Callable[[], dict]:
    """transformers' model."""
    return fresh(lambda: their_loader(Path(path)))


def their_session(path: str) -> Callable[[], dict]:
    """transformers' model and tokenizer."""

    def bring() -> Callable[[], Any]:
        from transformers import AutoTokenizer

        load = their_loader(Path(path))

        def both() -> Any:
            AutoTokenizer.from_pretrained(**place(Path(path)))
            return load()

        return both

    return fresh(bring)


def their_loader(path: Path) -> Callable[[], Any]:
    """What loads the model by its class; a GGUF file becomes fp32, as by us, a folder keeps its type."""
    import transformers

    kind = getattr(transformers, named(path))
    dtype = "float32" if path.is_file() else "auto"
    return lambda: kind.from_pretrained(**place(path), dtype=dtype).eval()


def named(path: Path) -> str:
    """The class transformers loads it with: the first of the config's architectures."""
    if path.is_file():
        return "AutoModelForCausalLM"
    return json.loads((path / "config.json").read_text())["architectures"][0]


def place(path: Path) -> dict[str, str]:
    """How `from_pretrained` is told of a file or a folder."""
    if path.is_file():
        return {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return {"pretrained_model_name_or_path": str(path)}
