"""From recurrence to attention: the notebook trains its models, runs with every assertion, and would not run
if one of its steps were wrong.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from tests.house.tree import ROOT
from tests.notebooks.play import Play, cells_of, pictures_in_a_kernel

NOTEBOOK = ROOT / "notebooks" / "recurrence_to_attention.py"

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
    assert len(play.known) == len(play.cells) > 20
    assert play.pictures >= 12


MISTAKES = {
    "a distance not squared": (
        "scores = -((queries[:, None] - keys) ** 2) / 2",
        "scores = -abs(queries[:, None] - keys)",
    ),
    "the key's length left out": ("[0, -1 / 2, 0, 0]", "[0, 0, 0, 0]"),
    "not scaled": ("enumerate((1.0, 1 / math.sqrt(d)))", "enumerate((1.0, 1.0))"),
    "no mask": ("np.where(real_M, scores_M, -np.inf)", "scores_M"),
    "the gate turned round": ("return (1 - z) * n + z * h", "return z * n + (1 - z) * h"),
    "reset and update swapped": ("r, z = sigmoid", "z, r = sigmoid"),
    "input and forget gate swapped": ("i, f, g, o = np.split", "f, i, g, o = np.split"),
    "the state behind the step looks": (
        'torch.stack([first, *seen["decoder.layers.0.out"][:-1]])',
        'seen["decoder.layers.0.out"]',
    ),
    "the state in front of the step looks": (
        'states_LD, keys_MD = read["decoder.layers.0.out"]',
        'states_LD, keys_MD = read["decoder.layers.0.out"].roll(1, 0)',
    ),
    "one head given as two": ("attention = taught[2][0]", "attention = taught[1][0]"),
    "positions left in": ("source=replace(plain.plan.source, position=None)", "source=plain.plan.source"),
    "another layer aligned": ("begin=begin, layer=1", "begin=begin, layer=0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_stops_it(mistake, play, folder, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(AssertionError):
        play.with_mistake(*MISTAKES[mistake])


def test_it_opens_and_runs_as_a_notebook(folder, play):
    """As a reader runs it, in a kernel; the models that `play` has trained are found."""
    assert pictures_in_a_kernel(NOTEBOOK, folder) == play.pictures
