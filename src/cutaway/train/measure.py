"""What this machine really reaches: matrix products in fp32 and bf16, and reading memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch

from cutaway.train.choose import available_cores, synchronise
from cutaway.train.facts import processor_name

ROWS, INNER, COLUMNS = 1024, 768, 3072
GPU_ROWS = 32 * ROWS  # or the launch would take longer than the product
COPY_NUMBERS = 16 << 20


@dataclass(frozen=True)
class Machine:
    """Measured peaks of the processor: operations a second of a matrix product, bytes a second of a copy
    (read and written). `devices` are the GPUs torch finds.
    """

    processor: str
    cores: int
    devices: tuple[str, ...]
    fp32_flops: float
    bf16_flops: float
    copy_bytes: float


def machine() -> Machine:
    """Measure this machine; takes about a second."""
    return Machine(
        processor_name(),
        available_cores(),
        tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())),
        peak_flops("fp32"),
        peak_flops("bf16"),
        copy_bandwidth(),
    )


def peak_flops(precision: str, device: str = "cpu") -> float:
    """Operations a second of the best of some matrix products there, with the threads torch uses now."""
    return _peak_flops(precision, device, torch.get_num_threads())


@lru_cache
def _peak_flops(precision: str, device: str, threads: int) -> float:
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows = ROWS if device == "cpu" else GPU_ROWS
    x, weight = torch.randn(rows, INNER).to(device, dtype), torch.randn(COLUMNS, INNER).to(device, dtype)

    def product() -> None:
        torch.nn.functional.linear(x, weight)
        synchronise(device)

    with torch.no_grad():
        return 2.0 * rows * INNER * COLUMNS / best_seconds(product)


def copy_bandwidth() -> float:
    """Bytes a second of copying a buffer larger than the caches, read and written."""
    source = torch.ones(COPY_NUMBERS)
    target = torch.empty_like(source)
    return 2.0 * source.numel() * source.element_size() / best_seconds(lambda: target.copy_(source))


def best_seconds(work: Callable[[], object], budget_seconds: float = 0.3) -> float:
    """The fastest of the repeats that fit into the budget, after one that is not counted."""
    work()
    best, begin = float("inf"), time.perf_counter()
    while time.perf_counter() - begin < budget_seconds or best == float("inf"):
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best
