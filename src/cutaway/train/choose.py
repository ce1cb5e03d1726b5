"""Where a run computes, and what is faster there, decided by timing one block of the model, once, at step 0.

The choice is written into the run and replayed when it goes on: measured twice it might differ, and the
numbers with it. Only the paths of a processor have been run by us; those of a GPU are written after torch's
documentation, and held against its shapes and devices alone.
"""

import copy
import os
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.models import AnyModel, Paired, Single
from cutaway.nn.attention import Attention
from cutaway.nn.block import Block
from cutaway.nn.mask import settle
from cutaway.nn.position import rotation
from cutaway.nn.stack import Stack

GAIN = 1.15  # what bf16 must win on a block, to pay for the copies it needs
COMPILE_SECONDS = 40.0  # what compiling one block costs on two cores, forward and backward
COMPILE_GAIN = 1.05
WORTH_TRYING = 20  # a trial compilation may cost a twentieth of the run, for it may win nothing
TURNS = 3


@dataclass(frozen=True)
class Choice:
    """How a run computes: "fp32" or "bf16", "on" or "off", how many threads, on "cpu" or "cuda"."""

    precision: str
    compile: str
    threads: int
    device: str = "cpu"

    @property
    def dtype(self) -> torch.dtype:
        """The working copy's type."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def told(self) -> str:
        """The choice in words; a processor goes without saying."""
        told = f"{self.precision}, compile {self.compile}, {self.threads} threads"
        return told if self.device == "cpu" else f"{told}, on {self.device}"

    def take(self) -> None:
        """Make this process compute so, as far as a process can be told.

        Raises ConfigError where the device is not there.
        """
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError(
                "this run computes on cuda and torch finds no GPU here: go on where there is one, "
                "or begin a new run with another --out"
            )
        torch.set_num_threads(self.threads)

    def facts(self) -> dict[str, object]:
        """What goes into the run's facts."""
        return asdict(self)


def choose(model: AnyModel, run: spec.Run, rows: int, length: int) -> Choice:
    """Settle what the run leaves open ("auto", 0 threads): a GPU where there is one, the rest by measuring.

    A micro-batch has about `rows` rows of `length` positions. Raises ConfigError where the run asks for a GPU
    and there is none, or to compile what has no blocks.
    """
    threads, device = run.threads or available_cores(), choose_device(run.device)
    torch.set_num_threads(threads)
    precision, compiled = run.precision, run.compile
    if not isinstance(model, Single | Paired):
        if compiled == "on":
            raise ConfigError("compile on: only the blocks of a transformer are compiled; take off or auto")
        # on our processor bf16 is 20 times slower in torch's recurrent layers, 10 times in its convolutions
        return Choice("fp32" if precision == "auto" else precision, "off", threads, device)
    block = (model.decoder if isinstance(model, Paired) else model).blocks[0]
    assert isinstance(block, Block)
    if precision == "auto":
        slow, fast = in_turn(block, rows, length, device)
        precision = "bf16" if slow > GAIN * fast else "fp32"
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if compiled == "auto":
        layers = sum(m.layers for m in model.modules() if isinstance(m, Stack))
        plain = block_seconds(block, rows, length, dtype, device)
        eager_total = plain * layers * run.accumulate * run.steps
        if eager_total < WORTH_TRYING * COMPILE_SECONDS or reads_many_lengths(model):
            compiled = "off"
        else:
            fused = block_seconds(block, rows, length, dtype, device, compiled=True)
            compiled = "on" if plain > COMPILE_GAIN * fused else "off"
    return Choice(precision, compiled, threads, device)


def reads_many_lengths(model: AnyModel) -> bool:
    """Whether its examples have many lengths, each of which would be compiled: pairs and single sentences."""
    plan = model.plan
    match plan:
        case spec.Single(input=spec.Tokens(), head=spec.Classify()) | spec.Paired():
            return True
    return False


def choose_device(asked: str) -> str:
    """ "cpu" or "cuda": what was asked for, and for "auto" a GPU where torch finds one.

    Raises ConfigError for a GPU that torch does not find.
    """
    found = torch.cuda.is_available()
    if asked == "cuda" and not found:
        raise ConfigError(
            f"device cuda: torch {torch.__version__} finds no GPU here; "
            "take device cpu or auto, or install a torch built for your GPU"
        )
    return "cuda" if found and asked != "cpu" else "cpu"


def synchronise(device: str) -> None:
    """Wait until the device has done what it was given: a GPU computes behind the caller's back."""
    if device == "cuda":
        torch.cuda.synchronize()


def in_turn(block: Block, rows: int, length: int, device: str) -> tuple[float, float]:
    """Seconds of a block in fp32 and in bf16, taken by turns, so that what slows the machine slows both."""
    kinds = (torch.float32, torch.bfloat16)
    turns = [
        [block_seconds(block, rows, length, kind, device, repeats=1) for kind in kinds] for _ in range(TURNS)
    ]
    return min(turn[0] for turn in turns), min(turn[1] for turn in turns)


def compile_blocks(model: nn.Module) -> None:
    """Compile each block on its own: one graph serves all, and embedding and head stay outside.

    Outside, the embedding's gradient is summed in a fixed order; compiled, it would use atomic adds.
    """
    for module in model.modules():
        if isinstance(module, Block):
            module.compile(fullgraph=True, dynamic=False)


def block_seconds(
    block: Block,
    rows: int,
    length: int,
    dtype: torch.dtype,
    device: str = "cpu",
    *,
    compiled: bool = False,
    repeats: int = 3,
) -> float:
    """The fastest of some forward and backward passes of one block on random numbers."""
    trial = copy.deepcopy(block).to(device, dtype).train()
    if compiled:
        trial.compile(fullgraph=True, dynamic=False)
    width = next(trial.mixer_norm.parameters()).numel()
    x_BLD = torch.randn(rows, length, width, dtype=dtype, device=device, requires_grad=True)
    memory = (
        {}
        if trial.cross is None
        else {"memory_BMD": x_BLD.detach(), "memory_mask": settle("all", length, length)}
    )
    turn = None
    if isinstance(trial.mixer, Attention) and trial.mixer.rotary is not None:
        positions = torch.arange(length, device=device)[None]
        turn = rotation(trial.mixer.rotary, trial.mixer.head_width, positions, dtype)
    best = float("inf")
    for _ in range(repeats + 1):
        synchronise(device)
        begin = time.perf_counter()
        out_BLD: Tensor = trial(x_BLD, mask=settle("past", length, length), rotation=turn, **memory)
        out_BLD.sum().backward()
        synchronise(device)
        best = min(best, time.perf_counter() - begin)
    return best


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
