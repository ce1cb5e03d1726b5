"""Where the writer looked while it translated a sentence: its alignment as a picture.

python figure.py RUN [SENTENCE] [OUT]
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

import cutaway as ca
from cutaway.app.alignment import draw_alignment

SENTENCE = "ein mann schläft in einem grünen raum auf einem sofa."


def draw_sentence(run: Path, sentence: str, out: Path) -> Path:
    """The alignment of one sentence and what a run writes for it."""
    model = ca.load(run)
    found = model.translations([sentence], align=True)[0]
    size = (1.5 + 0.45 * len(found.source), 1.2 + 0.35 * len(found.tokens))
    figure = Figure(figsize=size, layout="constrained")
    draw_alignment(figure.subplots(), model.tokenizer, found)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    return out


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: figure.py RUN [SENTENCE] [OUT]")
    run, sentence, out, *_ = [*sys.argv[1:], *[None] * 3]
    assert run is not None
    target = Path(out) if out else Path(__file__).parent / "results" / "alignment.svg"
    print(draw_sentence(Path(run), sentence or SENTENCE, target))
