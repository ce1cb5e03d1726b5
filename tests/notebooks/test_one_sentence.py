"""The notebook runs, with every assertion in it, and would not run if one of its steps were wrong."""

import sysconfig
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

import cutaway
from cutaway.errors import TapError
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import find_recipe
from tests.house.tree import ROOT
from tests.notebooks.play import Play, cells_of, pictures_in_a_kernel

NOTEBOOK = ROOT / "notebooks" / "one_sentence.py"
STEPS = "20"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def play(folder):
    with pytest.MonkeyPatch.context() as patch, plt.rc_context():
        patch.setenv("CUTAWAY_NOTEBOOK_STEPS", STEPS)
        patch.setenv("CUTAWAY_HOME", str(folder))
        patch.chdir(folder)
        played = Play(cells_of(NOTEBOOK))
        played.all()
        yield played


def test_every_cell_runs(play):
    assert len(play.known) == len(play.cells) > 30
    assert play.pictures >= 10


MISTAKES = {
    "scores scaled by K": ("math.sqrt(K)\nprint", "K\nprint"),
    "the mask transposed": ("formal.unidirectional(L).T", "formal.unidirectional(L)"),
    "heads cut across tokens": ("reshape(L, H, K).transpose(1, 0, 2)", "reshape(H, L, K)"),
    "turned the other way": (
        "a * np.cos(angle) - b * np.sin(angle)",
        "a * np.cos(angle) + b * np.sin(angle)",
    ),
    "neighbours for pairs": (
        "a, b = y_LK[:, : K // 2], y_LK[:, K // 2 :]",
        "a, b = y_LK[:, ::2], y_LK[:, 1::2]",
    ),
    "softmax over queries": ("formal.softmax(masked_LL.T).T", "formal.softmax(masked_LL)"),
    "another head's part of W_o": (
        "W_o[:, h * K : (h + 1) * K].T",
        "W_o[:, (H - 1 - h) * K : (H - h) * K].T",
    ),
    "ReLU not squared": ("formal.ReLU(normed_LD @ W_mlp1.T) ** 2", "formal.ReLU(normed_LD @ W_mlp1.T)"),
    "replacing for adding": ("x_LD = x_LD + made_LD", "x_LD = made_LD"),
    "no norm before attention": ("attend(norm(x_LD, b.mixer_norm), b.attn)", "attend(x_LD, b.attn)"),
    "loss not shifted": ("ids[t + 1]", "ids[t]"),
    "another head switched off": ("ablate(heads=[H - 1])", "ablate(heads=[0])"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_stops_it(mistake, play):
    with pytest.raises(AssertionError):
        play.with_mistake(*MISTAKES[mistake])


def test_it_runs_on_the_demo_s_model_and_on_no_head_that_it_lacks(tmp_path, monkeypatch):
    """The model it prefers, with as many layers and heads as `make demo` gives it, on less text."""
    plan = read_recipe(find_recipe("stdlib"))
    library = Path(sysconfig.get_path("stdlib"))
    less = replace(plan.data, source=tuple(str(library / name) for name in ("asyncio", "email", "http")))
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cutaway.train(
        replace(plan, data=less), out="runs/demo", steps=6, sample=0, precision="fp32", compile="off"
    )
    played = Play(cells_of(NOTEBOOK))
    with plt.rc_context():
        played.all()
        assert played.known[-1]["trained"] == Path("runs/demo")
        with pytest.raises(TapError, match="head"):
            played.with_mistake("ablate(heads=[H - 1])", "ablate(heads=[H])")


def test_it_opens_and_runs_as_a_notebook(folder, play):
    """As a reader runs it, in a kernel; the model that `play` has trained is found."""
    assert pictures_in_a_kernel(NOTEBOOK, folder, CUTAWAY_NOTEBOOK_STEPS=STEPS) == play.pictures
