"""BLEU against the length of the source, help and captions each alone: the mean and the range of the seeds.

python figure.py [DATA RUN [RUN ...]]    (DATA is what prepare.py wrote; each run is measured and kept in
results/lengths-seed-K.json, from which the figure is drawn, without a run too)
"""

import json
import sys
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cutaway as ca
from cutaway.data import bleu
from cutaway.data.parallel import read_parallel
from cutaway.errors import CutawayError, InputMissingError
from cutaway.spec import Parallel
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE
from cutaway.store import read_object, write_file

RESULTS = Path(__file__).parent / "results"
KINDS = ("help", "captions")
FEWEST = 20  # sentences a bucket must have to be drawn
Rows = list[dict]  # words, sentences, bleu: one for each bucket


def measure(data: Path, run: Path) -> dict[str, Rows]:
    """BLEU by length of what a run writes, for each kind of text."""
    model, found = ca.load(run), {}
    for kind in KINDS:
        test = read_parallel(Parallel(str(data), "en", "de"), f"test_{kind}")
        rows = bleu.by_length(model.translate(test.source), test.target, test.source, bleu.LENGTHS)
        found[kind] = [
            {"words": row.bucket, "sentences": row.count, "bleu": row.bleu.score if row.bleu else None}
            for row in rows
        ]
    return found


def keep(results: Path, run: Path, found: dict[str, Rows]) -> Path:
    """Writes what a run reached into the file of its seed, beside the other members of the recipe."""
    path = results / f"lengths-seed-{read_object(run / 'facts.json')['seed']}.json"
    members = read_object(path) if path.is_file() else {}
    members |= {read_recipe(run / RECIPE).name: found}
    write_file(path, (json.dumps(dict(sorted(members.items())), indent=1) + "\n").encode())
    return path


def draw_kind(axes: Axes, kind: str, seeds: list[dict[str, dict[str, Rows]]]) -> None:
    """A line for each member: a point is the mean of the seeds, the band their range."""
    rows = next(iter(seeds[0].values()))[kind]
    drawn = [place for place, row in enumerate(rows) if row["sentences"] >= FEWEST]
    for number, name in enumerate(sorted(set().union(*seeds))):
        measured = [seed[name][kind] for seed in seeds if name in seed]
        scores = [[rows[place]["bleu"] for rows in measured] for place in drawn]
        label = f"{name}, {len(measured)} {'seed' if len(measured) == 1 else 'seeds'}"
        axes.plot(range(len(drawn)), list(map(mean, scores)), "o-", color=f"C{number}", label=label)
        lows, highs = list(map(min, scores)), list(map(max, scores))
        axes.fill_between(range(len(drawn)), lows, highs, color=f"C{number}", alpha=0.25, linewidth=0)
    names = [f"{rows[place]['words']}\n({rows[place]['sentences']})" for place in drawn]
    axes.set_xticks(range(len(names)), names, fontsize=8)
    axes.set_title(kind)
    axes.spines[["top", "right"]].set_visible(False)


def draw_lengths(results: Path) -> Path:
    """The figure of all seeds there are; raises InputMissingError where there is none."""
    seeds = [read_object(path) for path in sorted(results.glob("lengths-seed-*.json"))]
    if not seeds:
        raise InputMissingError(f"{results}: no seed measured yet; run `figure.py DATA RUN [RUN ...]`")
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    sides = figure.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    for axes, kind in zip(sides, KINDS, strict=True):
        draw_kind(axes, kind, seeds)
    sides[0].set_ylim(bottom=0)  # after both are drawn: they share it
    sides[0].set_ylabel("BLEU: mean and range of the seeds")
    sides[0].legend()
    figure.supxlabel("words of the source (sentences)", fontsize=10)
    out = results / "lengths.svg"
    figure.savefig(out, metadata={"Date": None})
    return out


if __name__ == "__main__":
    if len(sys.argv) == 2:
        sys.exit("usage: figure.py [DATA RUN [RUN ...]]")
    try:
        for run in map(Path, sys.argv[2:]):
            print(keep(RESULTS, run, measure(Path(sys.argv[1]), run)))
        print(draw_lengths(RESULTS))
    except CutawayError as problem:
        sys.exit(str(problem))
