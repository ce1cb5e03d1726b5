"""`cutaway doctor`: what this machine can do, measured, and what Cutaway will therefore choose."""

import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated

import cutaway
from cutaway.app.options import Flag, option, parse
from cutaway.spec.presets import quick
from cutaway.spec.run import Run

if TYPE_CHECKING:
    from cutaway.train.choose import Choice

TRIAL = Run(steps=1000, batch=16, length=256)
WIDTH = 256
FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8")


@dataclass(frozen=True)
class Options:
    """What this machine can do, measured, and what Cutaway will therefore choose."""

    quick: Annotated[Flag, option(help="no trial compilation")] = False
    json: Annotated[Flag, option(help="one JSON object")] = False


@dataclass(frozen=True)
class Trial:
    """Compiling one block: how long it took, how much faster than eager it is; `problem` where it failed."""

    seconds: float
    gain: float | None
    problem: str | None


@dataclass(frozen=True)
class Diagnosis:
    """Everything `doctor` found out."""

    cutaway: str
    python: str
    torch: str
    system: str
    supported: str
    processor: str
    flags: tuple[str, ...]
    cores: int
    memory_bytes: int | None
    devices: tuple[str, ...]
    fp32_flops: float
    bf16_flops: float
    copy_bytes: float
    trial: Trial | None
    precision: str
    threads: int
    device: str


def run(arguments: list[str]) -> int:
    """Prints the diagnosis."""
    options = parse(Options, arguments, "cutaway doctor")
    found = diagnose(quickly=options.quick)
    print(json.dumps(asdict(found)) if options.json else "\n".join(describe(found)))
    return 0


def diagnose(quickly: bool) -> Diagnosis:
    """Measures this machine: about five seconds, and without `quickly` a compilation."""
    import torch

    from cutaway.models import build
    from cutaway.train.choose import choose
    from cutaway.train.measure import machine

    model = build(quick(layers=1, width=WIDTH, vocab=64))
    choice = choose(model, replace(TRIAL, compile="off"), TRIAL.batch, TRIAL.length)
    measured = machine()
    return Diagnosis(
        cutaway=cutaway.__version__,
        python=platform.python_version(),
        torch=torch.__version__,
        system=platform.platform(),
        supported="supported" if sys.platform.startswith("linux") else "untested: Cutaway supports Linux",
        processor=measured.processor,
        flags=processor_flags(),
        cores=measured.cores,
        memory_bytes=memory_bytes(),
        devices=measured.devices,
        fp32_flops=measured.fp32_flops,
        bf16_flops=measured.bf16_flops,
        copy_bytes=measured.copy_bytes,
        trial=None if quickly else try_compiling(model, choice),
        precision=choice.precision,
        threads=choice.threads,
        device=choice.device,
    )


def try_compiling(model, choice: "Choice") -> Trial:
    """Compiles one block as training would."""
    from cutaway.train.choose import block_seconds

    block = model.blocks[0]
    shape = (TRIAL.batch, TRIAL.length, choice.dtype, choice.device)
    begin = time.perf_counter()
    try:
        fused = block_seconds(block, *shape, compiled=True)
    except Exception as problem:  # whatever the compiler runs into is the finding
        return Trial(time.perf_counter() - begin, None, " ".join(str(problem).split())[:200])
    seconds = time.perf_counter() - begin
    return Trial(seconds, block_seconds(block, *shape) / fused, None)


def processor_flags() -> tuple[str, ...]:
    """The instruction sets that matter here, where Linux tells."""
    from cutaway.train.facts import processor

    return tuple(flag for flag in FLAGS if flag in processor().flags)


def memory_bytes() -> int | None:
    """Memory of the machine, or what a container leaves of it."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            return min(total, int(file.read()))
    except (OSError, ValueError):
        return total


def describe(found: Diagnosis) -> list[str]:
    """The diagnosis in lines for people."""
    memory = "unknown" if found.memory_bytes is None else f"{found.memory_bytes / 2**30:.1f} GiB"
    lines = [
        f"cutaway {found.cutaway}, torch {found.torch}, Python {found.python}",
        f"system     {found.system} ({found.supported})",
        f"processor  {found.processor}",
        f"           {found.cores} cores for this process; {', '.join(found.flags) or 'no flags known'}; "
        f"AMX {'yes' if 'amx_bf16' in found.flags else 'no'}",
        f"memory     {memory}",
        f"GPU        {', '.join(found.devices) or 'none'}",
        "           (the paths for a GPU are written, but we have not run them)",
        f"matmul     fp32 {found.fp32_flops / 1e9:.0f} GFLOP/s, bf16 {found.bf16_flops / 1e9:.0f} GFLOP/s",
        f"copying    {found.copy_bytes / 1e9:.1f} GB/s, read and written",
    ]
    if found.trial and found.trial.problem is None:
        lines.append(
            f"compiler   one block took {found.trial.seconds:.0f} s to compile, then ran "
            f"{found.trial.gain:.2f}x as fast as eager"
        )
    elif found.trial:
        lines.append(f"compiler   does not work here, and Cutaway runs without: {found.trial.problem}")
    chosen = f"{found.precision}, {found.threads} threads on {found.device}"
    lines.append(f"chosen     {chosen}; {compilation(found.trial)}")
    return lines


def compilation(trial: Trial | None) -> str:
    """When training compiles on this machine."""
    from cutaway.train.choose import COMPILE_GAIN

    if trial is None:
        return "compilation was not tried"
    if trial.gain is None or trial.gain < COMPILE_GAIN:
        return "no compilation, it does not pay here"
    return "compilation where a run is long enough to win its time back"
