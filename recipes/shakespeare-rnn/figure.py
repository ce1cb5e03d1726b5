"""Validation loss over seconds of training, both models, every committed seed.

It is that of the validation text's first nine tenths: of a sample of their windows while a run trains, of all
when it has ended.

python figure.py [OUT]
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from cutaway.app.results import read_results
from cutaway.spec.recipes import RECIPE

HERE = Path(__file__).parent


def draw_losses(out: Path) -> Path:
    """A colour for each model, a line for each seed."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for place, folder in enumerate(sorted(path.parent for path in HERE.glob(f"*/{RECIPE}"))):
        for number, result in enumerate(read_results(folder)):
            _, seconds, losses = zip(*result.curve, strict=True)
            losses = (*losses[:-1], result.figures["validation_head"])  # the last is of the whole text
            label = f"{folder.name}, {result.parameters:,} parameters" if number == 0 else None
            axes.plot(seconds, losses, "o-", color=f"C{place}", label=label)
    axes.set_xlabel("seconds of training")
    axes.set_ylabel("validation loss of the first nine tenths, nats a character")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    if not list(HERE.glob("*/results/seed-*.json")):
        sys.exit("no seed yet: `cutaway recipes run shakespeare-rnn --seed 1`")
    print(draw_losses(Path(sys.argv[1]) if sys.argv[1:] else HERE / "results" / "losses.svg"))
