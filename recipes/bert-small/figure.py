"""Test accuracy after pre-training and from scratch, every committed seed, beside a bag of words.

python figure.py [OUT]
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from cutaway.app.results import read_results

HERE = Path(__file__).parent
SETS = {
    "SST-2": ("2-sst2", "3-sst2-scratch", 0.819),
    "TREC": ("4-trec", "5-trec-scratch", 0.864),
}  # the last is a bag of words, README.md
NAMES = ("after pre-training", "from scratch")


def draw_accuracies(out: Path) -> Path:
    """A pair of columns of dots for each set, a dot for each seed."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for place, (tuned, scratch, words) in enumerate(SETS.values()):
        axes.hlines(words, place - 0.35, place + 0.35, "0.6", label="" if place else "bag of words")
        for shift, name in enumerate((tuned, scratch)):
            values = [result.value for result in read_results(HERE / name)]
            places = [place + 0.3 * shift - 0.15] * len(values)
            axes.plot(places, values, "o", color=f"C{shift}", label=None if place else NAMES[shift])
    axes.set_xticks(range(len(SETS)), list(SETS))
    axes.set_ylabel("test accuracy")
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    if not list(HERE.glob("*/results/seed-*.json")):
        sys.exit("no seed yet: `cutaway recipes run bert-small --seed 1`")
    print(draw_accuracies(Path(sys.argv[1]) if sys.argv[1:] else HERE / "results" / "accuracy.svg"))
