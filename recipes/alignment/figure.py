"""Where the writer looked: one sentence as a picture, and how often a colour's word was written from it.

python figure.py RUN DATA [OUT]    (DATA is the folder of Multi30k; its captions need no gold alignment, since
a caption with one colour says by itself which word the French colour came from)

L target position   M source position
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import cutaway as ca
from cutaway.data.parallel import read_parallel
from cutaway.generate.translate import Translation
from cutaway.session import Session
from cutaway.spec import Parallel
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE
from cutaway.store import write_file

SENTENCE = "a man in a red shirt is riding a white horse on a green field."
COLOURS = {
    "red": ("rouge", "rouges"),
    "blue": ("bleu", "bleue", "bleus", "bleues"),
    "black": ("noir", "noire", "noirs", "noires"),
    "white": ("blanc", "blanche", "blancs", "blanches"),
    "green": ("vert", "verte", "verts", "vertes"),
    "yellow": ("jaune", "jaunes"),
    "pink": ("rose", "roses"),
    "purple": ("violet", "violette", "violets", "violettes"),
    "gray": ("gris", "grise", "grises"),
    "brown": ("marron", "brun", "brune", "bruns", "brunes"),
}


@dataclass(frozen=True)
class Colour:
    """A colour's place in the target and in the source, the place looked at most, and the lengths of both."""

    written: int
    read: int
    looked: int
    lengths: tuple[int, int]

    @property
    def diagonal(self) -> int:
        """The source token at the same share of the sentence: where one would look without attention."""
        written, read = (length - 1 for length in self.lengths)
        return round(self.written / max(1, written) * read)


def names_of(model: Session, ids: tuple[int, ...]) -> list[str]:
    """Each token as one reads it."""
    return [model.tokenizer.token_name(token) for token in ids]


def find_colour(model: Session, found: Translation) -> Colour | None:
    """The colour of a translation where the source has exactly one and the target exactly its word, each of
    them one token.
    """
    read, written = (
        [model.tokenizer.decode([token]).strip() for token in side] for side in (found.source, found.tokens)
    )
    sources = [place for place, word in enumerate(read) if word in COLOURS]
    every = {word for words in COLOURS.values() for word in words}
    targets = [place for place, word in enumerate(written) if word in every]
    if len(sources) != 1 or len(targets) != 1 or written[targets[0]] not in COLOURS[read[sources[0]]]:
        return None
    assert found.alignment is not None
    looked = dict(found.alignment.links).get(targets[0])
    return None if looked is None else Colour(targets[0], sources[0], looked, (len(written), len(read)))


def count_colours(model: Session, captions: tuple[str, ...]) -> dict[str, float]:
    """How many captions have one colour on each side, and how many of these looked at it; beside it how many
    the diagonal would have met.
    """
    translated = model.translations(captions, align=True)
    colours = [colour for each in translated if (colour := find_colour(model, each))]
    count = len(colours)
    if not count:
        sys.exit("no caption has one colour and its word in French: is this a run from English to French?")
    return {
        "captions": count,
        "looked at the colour": sum(c.looked == c.read for c in colours) / count,
        "the diagonal would": sum(c.diagonal == c.read for c in colours) / count,
    }


def draw_alignment(axes: Axes, model: Session, sentence: str) -> None:
    """Rows are the tokens that were written, columns those that were read."""
    found = model.translations([sentence], align=True)[0]
    assert found.alignment is not None
    rows, columns = names_of(model, found.tokens), names_of(model, found.source)
    axes.imshow(found.alignment.weights_LM, cmap="gray", vmin=0, vmax=1, aspect="auto")
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="left")
    axes.set_yticks(range(len(rows)), rows)


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: figure.py RUN DATA [OUT]")
    run, data = Path(sys.argv[1]), sys.argv[2]
    out = Path(sys.argv[3]) if sys.argv[3:] else Path(__file__).parent / "results" / "alignment.svg"
    plan = read_recipe(run / RECIPE).data
    assert isinstance(plan, Parallel)
    model = ca.load(run)
    test = read_parallel(replace(plan, folder=data), plan.test)
    figure = Figure(figsize=(7, 6), layout="constrained")
    draw_alignment(figure.subplots(), model, SENTENCE)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None} if out.suffix == ".svg" else None)
    figures = count_colours(model, test.source)
    write_file(out.with_suffix(".json"), (json.dumps(figures, indent=1) + "\n").encode())
    print(json.dumps(figures, indent=1), out, sep="\n")
