"""The figure of `reverse`: each row is a letter that is written, and its axes say so."""

import importlib.util

import pytest

from cutaway import spec
from cutaway.data.tasks import StringTask
from cutaway.spec.recipes import shipped_recipes


@pytest.fixture
def figure():
    """The recipe's script as a module."""
    pytest.importorskip("matplotlib", reason="cutaway[plot] is not installed")
    path = shipped_recipes()["reverse"] / "figure.py"
    plan = importlib.util.spec_from_file_location("reverse_figure", path)
    module = importlib.util.module_from_spec(plan)
    plan.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("string", "written"), [("Rcab", "bac"), ("Scab", "abc")])
def test_the_cross_attention_of_one_example(figure, tmp_path, monkeypatch, string, written):
    from matplotlib.axes import Axes

    from cutaway.models import build
    from cutaway.session import Session

    task = StringTask(0)
    model = build(spec.vaswani(layers=2, width=16, heads=2, hidden=16, vocab=task.vocab)).eval()
    monkeypatch.setattr("cutaway.session.load", lambda path: Session(model, task.tokenizer()))
    labels = []
    monkeypatch.setattr(Axes, "set_yticks", lambda self, places, names: labels.append((len(places), names)))
    out = figure.draw_cross_attention(tmp_path, string, tmp_path / "made" / "cross.svg")
    assert labels == [(4, [*written, "end"])] * 4, "two layers of two heads"
    assert out.read_text().startswith("<?xml")
