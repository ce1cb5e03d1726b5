"""The ladder: BLEU of every rung, greedily and by beams, over all seeds, beside what is published.

python figure.py [OUT]    (drawn from results/compare-seed-K.json, which compare.py writes)
"""

import sys
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cutaway.app.results import read_expected
from cutaway.spec.recipes import RECIPE
from cutaway.store import read_object

HERE = Path(__file__).parent
SEARCHES = {"greedy": "greedy BLEU", "beam 5": "beam 5 BLEU"}  # columns of compare.py
WIDTH = 0.38  # of a bar; rungs are 1 apart


def draw_bars(axes: Axes, number: int, scores: dict[int, list[float]], label: str) -> None:
    """At each place a bar as high as the mean, which stands above it, and the range."""
    means = [mean(values) for values in scores.values()]
    pairs = list(zip(means, scores.values(), strict=True))
    spread = [[each - min(values) for each, values in pairs], [max(values) - each for each, values in pairs]]
    places = [place + number * WIDTH for place in scores]
    bars = axes.bar(places, means, WIDTH, yerr=spread, capsize=3, color=f"C{number}", label=label)
    axes.bar_label(bars, fmt="%.1f", fontsize=8, padding=2)


def draw_ladder(results: Path, out: Path) -> Path:
    """A bar for each rung and search, and over the greedy one a line where somebody else got to."""
    seeds = [read_object(path) for path in sorted(results.glob("compare-seed-*.json"))]
    rows = [row for seed in seeds for row in seed["rows"]]
    rungs = sorted(path.parent for path in HERE.glob(f"*/{RECIPE}"))
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (said, column) in enumerate(SEARCHES.items()):
        found = {p: [row[column] for row in rows if row["rung"] == r.name] for p, r in enumerate(rungs)}
        reached = {place: scores for place, scores in found.items() if scores}
        draw_bars(axes, number, reached, said)
    published = {place: p for place, rung in enumerate(rungs) if (p := read_expected(rung).published)}
    left, right = ([place + side * 0.6 * WIDTH for place in published] for side in (-1, 1))
    label = "published (greedy, tokenised otherwise)"
    axes.hlines(list(published.values()), left, right, "black", label=label)
    axes.set_xticks([place + WIDTH / 2 for place in range(len(rungs))], [rung.name for rung in rungs])
    names = ", ".join(str(seed["seed"]) for seed in seeds)
    axes.set_ylabel(f"BLEU, test 2016, de-en\nmean and range of seeds {names}")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    results = HERE / "results"
    if not list(results.glob("compare-seed-*.json")):
        sys.exit("no seed compared yet: `python recipes/multi30k-ladder/compare.py runs/multi30k-ladder 1`")
    print(draw_ladder(results, Path(sys.argv[1]) if sys.argv[1:] else results / "ladder.svg"))
