"""Where the decoder looks while it writes: the cross-attention of one example, every layer and head.

python figure.py RUN [STRING] [OUT]; a STRING begins with R (reverse) or S (sort).

B batch   H head   L position in the target   M position in the source
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

import cutaway as ca
from cutaway.data.tasks import START_ID

STRING = "Rcutaway"


def draw_cross_attention(run: Path, string: str, out: Path) -> Path:
    """Rows are the letters being written, columns those that are read: reversing is the other diagonal."""
    model = ca.load(run)
    answer = "".join(sorted(string[1:])) if string[0] == "S" else string[:0:-1]
    written = [START_ID, *model.tokenizer.encode(answer)]  # each position writes the letter after its own
    trace = ca.study.trace(model, (string, written), keep="decoder.blocks.*.cross.pattern")
    count, heads = len(trace), next(iter(trace.values())).size(1)
    figure = Figure(figsize=(2.2 * heads, 2.4 * count), layout="constrained")
    grid = figure.subplots(count, heads, squeeze=False)
    for row, (name, pattern_BHLM) in zip(grid, trace.items(), strict=True):
        for head, axes in enumerate(row):
            axes.imshow(pattern_BHLM[0, head].numpy(), cmap="Blues", vmin=0, vmax=1)
            axes.set_title(f"{name.split('.')[2]} · head {head}", fontsize=8)
            axes.set_xticks(range(len(string)), string)
            axes.set_yticks(range(len(written)), [*answer, "end"])
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: figure.py RUN [STRING] [OUT]")
    run, string, out, *_ = [*sys.argv[1:], *[None] * 3]
    assert run is not None
    target = Path(out) if out else Path(__file__).parent / "results" / "cross-attention.svg"
    print(draw_cross_attention(Path(run), string or STRING, target))
