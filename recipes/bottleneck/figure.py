"""BLEU against the length of the source, help and captions each alone, and of short sentences joined into
long lines: the mean and the range of the seeds.

python figure.py [DATA RUN [RUN ...]]    (DATA is what prepare.py wrote; each run is measured and kept in
results/lengths-seed-K.json, from which the figure is drawn, without a run too)
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cutaway as ca
from cutaway.data import bleu
from cutaway.data.parallel import read_parallel
from cutaway.errors import CutawayError, InputMissingError
from cutaway.session import Session
from cutaway.spec import Parallel
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE
from cutaway.store import read_object, write_file

RESULTS = Path(__file__).parent / "results"
KINDS = ("help", "captions")
JOINED = "{} joined"
SHORT = range(6, 16)  # words of the sentences that are joined
COUNTS = (1, 2, 3, 4)  # so many in a line
FEWEST = 20  # sentences a bucket must have to be drawn
Rows = list[dict]  # words, sentences, bleu: one for each bucket


def measure(data: Path, run: Path) -> dict[str, Rows]:
    """BLEU by length of what a run writes, for each kind of text, and of it with short sentences joined."""
    model, found = ca.load(run), {}
    for kind in KINDS:
        test = read_parallel(Parallel(str(data), "en", "de"), f"test_{kind}")
        rows = bleu.by_length(model.translate(test.source), test.target, test.source, bleu.LENGTHS)
        found[kind] = [
            {"words": row.bucket, "sentences": row.count, "bleu": row.bleu.score if row.bleu else None}
            for row in rows
        ]
        found[JOINED.format(kind)] = [
            measure_joined(model, test.source, test.target, count) for count in COUNTS
        ]
    return found


def measure_joined(model: Session, source: Sequence[str], target: Sequence[str], count: int) -> dict:
    """BLEU of the same short sentences, `count` in a line: what changes is the length alone."""
    pairs = [pair for pair in zip(source, target, strict=True) if len(pair[0].split()) in SHORT]
    Random(0).shuffle(pairs)
    lines = [pairs[at : at + count] for at in range(0, len(pairs) - count + 1, count)]
    sources, targets = ([" ".join(pair[side] for pair in line) for line in lines] for side in (0, 1))
    score = bleu.detokenised(model.translate(sources), targets).score if lines else None
    return {"words": f"{count} in a line", "sentences": len(lines), "bleu": score}


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
    if not all(JOINED.format(KINDS[0]) in member for seed in seeds for member in seed.values()):
        raise InputMissingError(f"{results}: measured without the joined sentences; measure all seeds again")
    figure = Figure(figsize=(9, 7.5), layout="constrained")
    grid = figure.subplots(2, 2, sharey=True, width_ratios=(2, 1))
    for row, name in zip(grid, ("{}", JOINED), strict=True):
        for axes, kind in zip(row, KINDS, strict=True):
            draw_kind(axes, name.format(kind), seeds)
        row[0].set_ylabel("BLEU: mean and range of the seeds")
    short = f"sentences of {SHORT[0]} to {SHORT[-1]} words"
    for axes, told in zip(grid[:, 0], ("words of the source", short), strict=True):
        axes.set_xlabel(f"{told} (lines)")
    grid[0, 0].set_ylim(bottom=0)  # after all are drawn: they share it
    grid[0, 0].legend()
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
