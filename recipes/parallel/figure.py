"""Training tokens a second against the length of the sequences: recurrence and self-attention.

python figure.py [SECONDS_A_POINT]

B batch   L position
"""

import json
import sys
import time
from pathlib import Path
from statistics import median

import torch
from matplotlib.figure import Figure

from cutaway import spec
from cutaway.allocator import keep_large_buffers
from cutaway.models import AnyModel, build, count_parameters
from cutaway.store import write_file
from cutaway.train.choose import available_cores
from cutaway.train.facts import gather_facts
from cutaway.train.loss import Batch, next_token_loss

MODELS = {"LSTM": spec.lstm(2, 256, vocab=256), "transformer": spec.quick(5, 128, 4, vocab=256)}
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
TOKENS = 4096  # a step
TURNS = 5
SECONDS = 3.0


def step_seconds(model: AnyModel, length: int, optimizer: torch.optim.Optimizer) -> float:
    """How long one step takes on random tokens, forward, backward and update."""
    tokens_BL = torch.randint(256, (TOKENS // length, length + 1))
    begin = time.perf_counter()
    next_token_loss(model, Batch((tokens_BL[:, :-1],), tokens_BL[:, 1:]), TOKENS).backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - begin


def measure(seconds: float) -> dict[str, list[float]]:
    """Tokens a second of each model at each length, the median of turns taken one after the other."""
    torch.set_num_threads(available_cores())
    models = {name: build(plan).train() for name, plan in MODELS.items()}
    optimizers = {name: torch.optim.AdamW(model.parameters(), fused=True) for name, model in models.items()}
    rates: dict[str, list[float]] = {name: [] for name in models}
    for length in LENGTHS:
        found: dict[str, list[float]] = {name: [] for name in models}
        for turn in range(TURNS + 1):
            for name, model in models.items():
                until, taken = time.perf_counter() + seconds / TURNS, []
                while not taken or time.perf_counter() < until:
                    taken.append(step_seconds(model, length, optimizers[name]))
                if turn:  # the first one warms up
                    found[name].append(median(taken))
        for name, taken in found.items():
            rates[name].append(TOKENS / median(taken))
        print(length, *(f"{name} {values[-1]:,.0f} tokens/s" for name, values in rates.items()))
    return rates


def draw_rates(rates: dict[str, list[float]], out: Path) -> Path:
    """A line for each model."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, values in rates.items():
        axes.plot(LENGTHS, values, "o-", label=f"{name}, {count_parameters(MODELS[name]):,} parameters")
    axes.set_xscale("log", base=2)
    axes.set_xticks(LENGTHS, [str(length) for length in LENGTHS])
    axes.set_xlabel(f"length of a sequence ({TOKENS:,} tokens a step)")
    axes.set_ylabel("training tokens a second")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    keep_large_buffers()
    results = Path(__file__).parent / "results"
    rates = measure(float(sys.argv[1]) if sys.argv[1:] else SECONDS)
    facts = {name: str(value) for name, value in gather_facts().items()}
    told = {"lengths": LENGTHS, "tokens_a_step": TOKENS, "tokens_per_second": rates, "facts": facts}
    write_file(results / "tokens.json", (json.dumps(told, indent=1) + "\n").encode())
    print(draw_rates(rates, results / "tokens.svg"))
