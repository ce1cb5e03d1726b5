"""What to say when a step does not fit into memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from cutaway import spec
from cutaway.errors import LimitError
from cutaway.train.records import RECIPE, is_new


@contextmanager
def told_when_full(out: Path, current: Callable[[], spec.Run]) -> Iterator[None]:
    """Inside, running out of memory is a LimitError that says how the current run, in `out`, needs less."""
    try:
        yield
    except (MemoryError, RuntimeError) as problem:
        if not is_shortage(problem):
            raise
        run = current()
        rows = run.batch // run.accumulate
        smaller = [parts for parts in range(run.accumulate + 1, run.batch + 1) if run.batch % parts == 0]
        if not smaller:
            remedy = "begin a run with a smaller --length or model"
        elif is_new(out):
            remedy = f"begin again with --accumulate {smaller[0]}"
        else:
            remedy = f"write accumulate = {smaller[0]} into {out / RECIPE} and go on with --resume"
        raise LimitError(
            f"out of memory with {rows} examples of {run.length} tokens at once: {remedy}; "
            "what was saved is intact"
        ) from problem


def is_shortage(problem: BaseException) -> bool:
    """Whether an error is about memory: Python's, a GPU's, or torch's allocator's, which has no type."""
    return isinstance(problem, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(
        problem
    )
