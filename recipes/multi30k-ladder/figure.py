"""The ladder: BLEU of every rung and seed beside what is published, greedily and by beams of 5.

python figure.py [OUT]
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from cutaway.app.results import read_expected, read_results
from cutaway.spec.recipes import RECIPE

HERE = Path(__file__).parent
SEARCHES = {"test_bleu_greedy": "greedy", "test_bleu": "beam 5"}


def draw_ladder(out: Path) -> Path:
    """A column for each rung; a dot for each seed and search, a line where somebody else got to."""
    rungs = sorted(path.parent for path in HERE.glob(f"*/{RECIPE}"))
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for place, folder in enumerate(rungs):
        expected = read_expected(folder)
        if expected.published is not None:
            label = "published (greedy)" if place == 0 else ""
            axes.hlines(expected.published, place - 0.35, place + 0.35, "0.6", label=label)
        for shift, (name, said) in enumerate(SEARCHES.items()):
            values = [result.figures[name] for result in read_results(folder)]
            places = [place + 0.2 * shift - 0.1] * len(values)
            axes.plot(places, values, "o", color=f"C{shift}", label=said if place == 0 else None)
    axes.set_xticks(range(len(rungs)), [folder.name for folder in rungs], rotation=20)
    axes.set_ylabel("BLEU, test 2016, de-en")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    if not list(HERE.glob("*/results/seed-*.json")):
        sys.exit("no seed yet: `cutaway recipes run multi30k-ladder --seed 1`")
    print(draw_ladder(Path(sys.argv[1]) if sys.argv[1:] else HERE / "results" / "ladder.svg"))
