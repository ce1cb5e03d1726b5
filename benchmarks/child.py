"""A child process of a benchmark: `python -m benchmarks.child MODULE JOB ARGUMENTS`.

It builds one job, a callable without arguments, says what it runs on, and then calls the job as often as each
line on its standard input says, answering with the seconds and the value of every call. So several children
can take turns in small slices while each keeps its model, compiled code and warm caches.
"""

import importlib
import importlib.metadata
import json
import os
import platform
import sys
import time


def surroundings() -> dict[str, object]:
    """Versions and build flags of what this process has loaded."""
    peers = ("transformers", "transformer_lens", "sentence_transformers", "llama_cpp")
    names = ("torch", "numpy", *peers, "cutaway")
    loaded = {name: sys.modules[name] for name in names if name in sys.modules}
    found = {
        name: getattr(module, "__version__", None) or importlib.metadata.version(name)
        for name, module in loaded.items()
    }
    facts: dict[str, object] = {"python": platform.python_version(), **found}
    if "torch" in sys.modules:
        import torch

        facts["threads"] = torch.get_num_threads()
        facts["kernels"] = torch.backends.cpu.get_cpu_capability()
        facts["build"] = " ".join(
            word.strip(" ,")
            for word in torch.__config__.show().split()
            if word.startswith(("BLAS_INFO", "BUILD_TYPE"))
        )
    if "llama_cpp" in loaded:
        facts["llama.cpp"] = loaded["llama_cpp"].llama_print_system_info().decode().strip()
    if os.environ.get("LD_PRELOAD"):
        facts["preloaded"] = os.path.basename(os.environ["LD_PRELOAD"])
    return facts


def main(module: str, job: str, arguments: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    run = getattr(importlib.import_module(f"benchmarks.{module}"), job)(**json.loads(arguments))
    print(json.dumps(surroundings()), file=answers)
    for line in sys.stdin:
        seconds, values = [], []
        for _ in range(int(line)):
            start = time.perf_counter()
            values.append(run())
            seconds.append(time.perf_counter() - start)
        print(json.dumps({"seconds": seconds, "values": values}), file=answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
