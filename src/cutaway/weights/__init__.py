"""Weights from files."""

from cutaway.weights.run import (
    Checkpoint,
    assign,
    find_checkpoint,
    list_checkpoints,
    newest_checkpoint,
    read_run,
)
from cutaway.weights.safe import read_tensors

__all__ = [
    "Checkpoint",
    "assign",
    "find_checkpoint",
    "list_checkpoints",
    "newest_checkpoint",
    "read_run",
    "read_tensors",
]
