"""BLEU against the length of the source, for each of some runs.

python figure.py DATA RUN [RUN ...]
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

import cutaway as ca
from cutaway.data import bleu
from cutaway.data.parallel import read_parallel
from cutaway.spec import Parallel

FEWEST = 20  # sentences a bucket must have to be drawn


def draw_lengths(data: Path, runs: list[Path], out: Path) -> Path:
    """A line for each run, a point for each bucket of lengths."""
    test = read_parallel(Parallel(str(data), "en", "de"), "test")
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    buckets: list[str] = []
    for run in runs:
        written = ca.load(run).translate(test.source)
        rows = bleu.by_length(written, test.target, test.source, bleu.LENGTHS)
        rows = [row for row in rows if row.count >= FEWEST]
        buckets = [f"{row.bucket}\n({row.count})" for row in rows]
        scores = [row.bleu.score if row.bleu else 0.0 for row in rows]
        axes.plot(range(len(rows)), scores, "o-", label=run.name)
        print(run.name, *(f"{row.bucket}: {score:.1f}" for row, score in zip(rows, scores, strict=True)))
    axes.set_xticks(range(len(buckets)), buckets, fontsize=8)
    axes.set_xlabel("words of the source (sentences)")
    axes.set_ylabel("BLEU")
    axes.set_ylim(bottom=0)
    axes.legend()
    axes.spines[["top", "right"]].set_visible(False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: figure.py DATA RUN [RUN ...]")
    data, *runs = map(Path, sys.argv[1:])
    print(draw_lengths(data, runs, Path(__file__).parent / "results" / "lengths.svg"))
