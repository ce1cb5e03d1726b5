"""Where the writer looked: one sentence as a picture, and how often a colour's word was written from it.

python figure.py RUN DATA [OUT]    (DATA is the folder of Multi30k; its captions need no gold alignment, since
a caption with one colour says by itself which word the French colour came from)

Writes into OUT (results/) alignment-seed-K.svg, the sentence, and alignment-seed-K.json, the counts; then
colours.svg of the counts of all seeds that are there.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

import cutaway as ca
from cutaway.app.alignment import draw_alignment
from cutaway.data.parallel import read_parallel
from cutaway.generate.translate import Translation
from cutaway.session import Session
from cutaway.spec import Parallel
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import RECIPE
from cutaway.store import read_object, write_file

SENTENCE = "a man in a red shirt is riding a white horse on a green field."
LOOKED, DIAGONAL = "looked at the colour", "the diagonal would"
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
    """A colour's place in the target and in the source, the place looked at most of those that are text (the
    end token is none), and the lengths of both.
    """

    written: int
    read: int
    looked: int
    lengths: tuple[int, int]

    @property
    def diagonal(self) -> int:
        """The source token at the same share of the sentence: where one would look without attention."""
        written, read = (length - 1 for length in self.lengths)
        return round(self.written / max(1, written) * read)


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
        LOOKED: sum(c.looked == c.read for c in colours) / count,
        DIAGONAL: sum(c.diagonal == c.read for c in colours) / count,
    }


def examine(run: Path, data: str, out: Path) -> dict[str, float]:
    """Draws the sentence and counts the colours of one run, both kept under its seed."""
    plan, seed = read_recipe(run / RECIPE).data, read_object(run / "facts.json")["seed"]
    assert isinstance(plan, Parallel)
    model = ca.load(run)
    figure = Figure(figsize=(7, 6), layout="constrained")
    draw_alignment(figure.subplots(), model.tokenizer, model.translations([SENTENCE], align=True)[0])
    save(figure, out / f"alignment-seed-{seed}.svg")
    figures = count_colours(model, read_parallel(replace(plan, folder=data), plan.test).source)
    write_file(out / f"alignment-seed-{seed}.json", (json.dumps(figures, indent=1) + "\n").encode())
    return figures


def save(figure: Figure, out: Path) -> None:
    """Writes a figure without the date."""
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None})


def draw_colours(results: Path) -> Path:
    """How often the word looked at its colour and how often the diagonal would: a dot for each seed, a bar
    for their mean.
    """
    seeds = [read_object(path) for path in results.glob("alignment-seed-*.json")]
    figure = Figure(figsize=(7, 2), layout="constrained")
    axes = figure.subplots()
    for name in (DIAGONAL, LOOKED):
        shares = [100 * seed[name] for seed in seeds]
        axes.barh(name, mean(shares), color="0.85")
        axes.plot(shares, [name] * len(shares), "o", color="C0")
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the captions with one colour (bar: mean, dots: seeds)")
    axes.spines[["top", "right"]].set_visible(False)
    out = results / "colours.svg"
    save(figure, out)
    return out


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit("usage: figure.py RUN DATA [OUT]")
    run, data = Path(sys.argv[1]), sys.argv[2]
    out = Path(sys.argv[3]) if sys.argv[3:] else Path(__file__).parent / "results"
    print(json.dumps(examine(run, data, out), indent=1), draw_colours(out), sep="\n")
