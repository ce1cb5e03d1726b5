"""Where the writer looked while it translated a sentence: its alignment as a picture.

python figure.py RUN [SENTENCE] [OUT]

L target position   M source position
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

import cutaway as ca

SENTENCE = "ein mann schläft in einem grünen raum auf einem sofa."


def draw_alignment(run: Path, sentence: str, out: Path) -> Path:
    """Rows are the tokens that were written, columns those that were read."""
    model = ca.load(run)
    found = model.translations([sentence], align=True)[0]
    assert found.alignment is not None
    rows, columns = ([model.tokenizer.token_name(t) for t in side] for side in (found.tokens, found.source))
    figure = Figure(figsize=(1.5 + 0.45 * len(columns), 1.2 + 0.35 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(found.alignment.weights_LM, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left")
    axes.set_yticks(range(len(rows)), rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: figure.py RUN [SENTENCE] [OUT]")
    run, sentence, out, *_ = [*sys.argv[1:], *[None] * 3]
    assert run is not None
    target = Path(out) if out else Path(__file__).parent / "results" / "alignment.svg"
    print(draw_alignment(Path(run), sentence or SENTENCE, target))
