"""What to say when a step does not fit into memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cutaway import spec
from cutaway.errors import LimitError


@contextmanager
def told_when_full(run: spec.Run) -> Iterator[None]:
    """Inside, running out of memory is a LimitError that says how to need less."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not is_shortage(problem):
            raise
        rows = run.batch // run.accumulate
        smaller = [parts for parts in range(run.accumulate + 1, run.batch + 1) if run.batch % parts == 0]
        remedy = f"--accumulate {smaller[0]}" if smaller else "a smaller --length or model"
        raise LimitError(
            f"out of memory with {rows} examples of {run.length} tokens at once: use {remedy}; "
            "what was saved is intact"
        ) from problem


def is_shortage(problem: BaseException) -> bool:
    """Whether an error is about memory: Python's, a GPU's, or torch's allocator's, which has no type."""
    return isinstance(problem, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(
        problem
    )
