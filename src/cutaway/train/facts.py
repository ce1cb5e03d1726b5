"""What makes a run repeatable: seed, versions, machine, digests; and where it was made."""

import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

import cutaway


def gather_facts() -> dict[str, object]:
    """The facts of this process: software, machine, commit."""
    return {
        "cutaway": cutaway.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "commit": commit(),
    }


def differing(before: dict[str, object], now: dict[str, object]) -> list[str]:
    """Facts that must agree for a run that goes on to be the same to the last bit, and do not."""
    keys = ("torch", "processor", "python", *(["gpu"] if before.get("device") == "cuda" else []))
    return [
        f"{key} was {before.get(key)}, is {now.get(key)}" for key in keys if before.get(key) != now.get(key)
    ]


class Processor(NamedTuple):
    """What a processor calls itself, and its instruction sets as Linux names them: none where it does not."""

    name: str
    flags: frozenset[str]


@cache
def processor() -> Processor:
    """This machine's processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return Processor(platform.processor() or platform.machine(), frozenset())
    told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return Processor(told.get("model name", platform.machine()), frozenset(told.get("flags", "").split()))


def processor_name() -> str:
    """The processor's own name and its matrix extensions."""
    name, flags = processor()
    return " ".join([name, *(f for f in ("avx512f", "avx512_bf16", "amx_bf16") if f in flags)])


def commit() -> str | None:
    """The commit of the checkout this package runs from, with `+` where it is changed; None outside of
    one.
    """
    here = Path(__file__).resolve().parent
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() if "site-packages" not in here.parts else None
