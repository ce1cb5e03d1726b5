"""What makes a run repeatable: seed, versions, machine, digests; and where it was made."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


def gather_facts() -> dict[str, object]:
    """The facts of this process: software, machine, commit."""
    return {
        "cutaway": version("cutaway"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor_name(),
        "commit": commit(),
    }


def differing(before: dict[str, object], now: dict[str, object]) -> list[str]:
    """Facts that must agree for a run that goes on to be the same to the last bit, and do not."""
    keys = ("torch", "processor", "python")
    return [
        f"{key} was {before.get(key)}, is {now.get(key)}" for key in keys if before.get(key) != now.get(key)
    ]


def processor_name() -> str:
    """The processor's own name and its matrix extensions, where Linux tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = [f for f in ("avx512f", "avx512_bf16", "amx_bf16") if f in named.get("flags", "").split()]
    return " ".join([named.get("model name", platform.machine()), *flags])


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
