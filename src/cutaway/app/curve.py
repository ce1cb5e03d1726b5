"""The figure of a recipe: validation loss against seconds and steps of every seed, the published value.

The line is the loss on a part of the validation data, as training went on; the ring is that on all of it.
"""

from pathlib import Path

from cutaway.app.results import read_expected, read_results
from cutaway.errors import InputMissingError, MissingExtraError


def draw_curves(folder: Path, out: Path | None = None) -> Path:
    """Draws the `results/` of a recipe's folder into `out` (FOLDER/results/figure.svg), returns its path.

    Raises InputMissingError where no seed is committed, MissingExtraError without matplotlib.
    """
    expected, results = read_expected(folder), read_results(folder)
    if not results:
        raise InputMissingError(
            f"{folder}/results: no seed yet; run `cutaway recipes run {folder.name} --seed 1`"
        )
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtraError("plot") from None
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    sides = figure.subplots(1, 2, sharey=True)
    for axes, column, name in zip(sides, (1, 0), ("seconds of training", "steps"), strict=True):
        for number, result in enumerate(results):
            *points, last = [(point[column], point[2]) for point in result.curve]
            color, label = f"C{number}", f"seed {result.seed}"
            axes.plot(*zip(*points or [last], strict=True), marker=".", color=color, label=label)
            axes.plot(*last, marker="o", markersize=8, fillstyle="none", color=color)
        if expected.published is not None and expected.measure == "validation":
            axes.axhline(expected.published, color="black", linestyle="--", linewidth=1, label="published")
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    sides[0].set_ylabel("validation loss, nats\n(ring: on all of the data)")
    sides[1].legend()
    figure.suptitle(folder.name)
    path = out or folder / "results" / "figure.svg"
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": folder.name}):  # the same results give the same file
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    return path
