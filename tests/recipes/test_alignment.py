"""`alignment` counts what was looked at: one colour a side, its place, and never the end token."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from cutaway.data.tokenizer import subword_tokenizer
from cutaway.errors import ConfigError
from cutaway.generate.align import Alignment, linked
from cutaway.generate.translate import Translation
from tests.recipes.scripts import script

SENTENCES = ("a red shirt and a blue car", "une chemise rouge et une voiture bleue")
TOKENIZER = subword_tokenizer([*SENTENCES, "red", "rouge"] * 9, 500)
MODEL = SimpleNamespace(tokenizer=TOKENIZER)


@pytest.fixture
def figure():
    """The recipe's script as a module."""
    pytest.importorskip("matplotlib", reason="cutaway[plot] is not installed")
    return script("alignment", "figure.py")


def translation(source: str, target: str, looks: dict[int, int]) -> Translation:
    """A translation whose words looked at the end token most, and second at the places that are given."""
    ids, written = ((*TOKENIZER.encode(side).tolist(), TOKENIZER.end) for side in (source, target))
    weights_LM = torch.zeros(len(written), len(ids))
    weights_LM[:, -1] = 0.6
    for row, column in looks.items():
        weights_LM[row, column] = 0.4
    links = linked(weights_LM, ids, written, frozenset({TOKENIZER.end}))
    return Translation(target, ids, written, alignment=Alignment(weights_LM, links))


def test_each_word_here_is_one_token():
    assert [len(TOKENIZER.encode(side)) for side in SENTENCES] == [7, 7]


@pytest.mark.parametrize("looked", [0, 1, 2])
def test_a_colour_is_found_with_the_place_it_looked_at(figure, looked):
    found = figure.find_colour(MODEL, translation("a red shirt", "une chemise rouge", {2: looked}))
    assert found == figure.Colour(written=2, read=1, looked=looked, lengths=(4, 4))
    assert found.diagonal == 2, "where the French word stands, the English one does not"
    assert replace(found, lengths=(3, 6)).diagonal == 5, "the last goes with the last"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a shirt", "une chemise rouge"),
        ("a red shirt", "une chemise"),
        ("a red shirt", "une chemise bleue"),
        ("a red red shirt", "une chemise rouge"),
        ("a red and blue shirt", "une chemise rouge"),
        ("a red shirt", "une chemise rouge et bleue"),
        ("a green shirt", "une chemise verte"),  # each colour two tokens or more
    ],
)
def test_a_caption_that_says_nothing_certain_is_left_out(figure, source, target):
    assert figure.find_colour(MODEL, translation(source, target, {})) is None


def test_the_shares_are_of_the_captions_with_a_colour(figure):
    found = [
        translation("a red shirt", "une chemise rouge", {2: 1}),
        translation("a blue car", "une voiture bleue", {2: 1}),
        translation("a red shirt", "une chemise rouge", {2: 2}),
        translation("red", "rouge", {0: 0}),
        translation("a car", "une voiture", {}),
    ]
    model = SimpleNamespace(tokenizer=TOKENIZER, translations=lambda captions, align: found)
    assert figure.count_colours(model, ()) == {
        "captions": 4,
        "looked at the colour": 0.75,
        "the diagonal would": 0.25,
    }
    del found[:4]
    with pytest.raises(SystemExit, match="no caption has one colour"):
        figure.count_colours(model, ())


def test_the_picture_has_the_tokens_at_its_sides():
    pytest.importorskip("matplotlib", reason="cutaway[plot] is not installed")
    from matplotlib.figure import Figure

    from cutaway.app.alignment import draw_alignment

    axes, found = Figure().subplots(), translation("a red car", "une voiture rouge", {2: 1})
    draw_alignment(axes, TOKENIZER, found)
    assert [label.get_text() for label in axes.get_yticklabels()][:3] == ["une", " voiture", " rouge"]
    assert [label.get_text() for label in axes.get_xticklabels()][:3] == ["a", " red", " car"]
    assert axes.images[0].get_array()[2].tolist() == pytest.approx([0, 0.4, 0, 0.6])
    with pytest.raises(ConfigError, match="no alignment: ask for it by align=True"):
        draw_alignment(axes, TOKENIZER, replace(found, alignment=None))
