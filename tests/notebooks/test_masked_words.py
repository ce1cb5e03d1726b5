"""Masked words: the notebook trains its encoder, runs with every assertion, and would not run if one of its
steps were wrong.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.house.tree import ROOT
from tests.notebooks.play import Play, cells_of, pictures_in_a_kernel

NOTEBOOK = ROOT / "notebooks" / "masked_words.py"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def play(folder):
    with pytest.MonkeyPatch.context() as patch, plt.rc_context():
        patch.chdir(folder)
        played = Play(cells_of(NOTEBOOK))
        played.all()
        yield played


def test_every_cell_runs(play):
    assert len(play.known) == len(play.cells) > 10
    assert play.pictures >= 7


MISTAKES = {
    "the loss of every place": (
        "for t in range(len(x)) if hidden[t])",
        "for t in range(len(x)))",
    ),
    "the hidden token is read": ("exact(torch.tensor([x_masked]))", "exact(torch.tensor([x]))"),
    "the paper's mask elsewhere": (
        "swap[[MASK, formal.mask_token(V)]] = formal.mask_token(V), MASK",
        "swap[[0, 1]] = 1, 0",
    ),
    "heads read across": ("np.split(numbers(part), 4)", "[numbers(part)[h::4] for h in range(4)]"),
    "masks alone": ('Masks("bert", 0.2', 'Masks("literal", 0.2'),
    "a model that learned nothing": ("one, several = [", "after = before\none, several = ["),
    "nothing is hidden": ("rows[1, t + 1 : -1] = rows[2, 1:t] = MASK", "rows[:, 0] = MASK"),
    "a causal model left as it was": ('causal.sees = "past"', 'causal.sees = "all"'),
    "untrained vectors": (
        "numbers(session.model.input.token.weight)[",
        "numbers(before.model.input.token.weight)[",
    ),
    "fine-tuning that begins with nothing": ('("fine-tuned", tuned)', '("fine-tuned", scratch)'),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_stops_it(mistake, play, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(AssertionError):
        play.with_mistake(*MISTAKES[mistake])


def test_it_opens_and_runs_as_a_notebook(folder, play):
    """As a reader runs it, in a kernel; the models that `play` has trained are found."""
    assert pictures_in_a_kernel(NOTEBOOK, folder) == play.pictures
