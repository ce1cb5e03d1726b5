"""The figure of `reverse`: each row is a letter that is written, and its axes say so."""

import pytest

from cutaway import spec
from cutaway.data.tasks import StringTask
from tests.recipes.scripts import script


@pytest.fixture
def figure():
    """The recipe's script as a module."""
    pytest.importorskip("matplotlib", reason="cutaway[plot] is not installed")
    return script("reverse", "figure.py")


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
