"""Training: the loop and what is around it."""

from cutaway.train.loop import Step, Training
from cutaway.train.runner import Result, Runner

__all__ = ["Result", "Runner", "Step", "Training"]
