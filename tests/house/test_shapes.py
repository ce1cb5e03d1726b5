"""The shape watcher sees what it should, and only that."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.house.shapes import ShapeWatch, axes_in
from tests.house.tree import ROOT


def made(source: str, folder: Path) -> Callable[..., Any]:
    """The function `f` of `source`, as if it stood in a file of `folder`."""
    namespace: dict[str, Any] = {"torch": torch}
    exec(compile(source, f"{folder}/planted.py", "exec"), namespace)
    return namespace["f"]


def problems(source: str, *arguments: Any, folder: Path = Path("/package")) -> list[str]:
    function = made(source, folder)
    with ShapeWatch(Path("/package")) as watch:
        outcome = function(*arguments)
        if hasattr(outcome, "__next__"):
            list(outcome)
    return watch.problems


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("q_BHLK", "BHLK"),
        ("kept_q_BHLK", "BHLK"),
        ("mask_B11M", "B11M"),
        ("W_q", None),
        ("Q_L", None),
        ("beta_1", None),
        ("plain", None),
        ("x_", None),
    ],
)
def test_axes_are_the_capitals_after_the_last_underscore(name, axes):
    assert axes_in(name) == axes


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    x_BL = torch.ones(2, 3)\n    y_BLD = torch.ones(2, 3, 4)\n    return y_BLD",
        "def f():\n    scores_LL = torch.ones(3, 3)\n    return scores_LL",
        "def f():\n    mask_1L = torch.ones(1, 3)\n    return mask_1L",
        "def f():\n    x_BL = 'not a tensor'\n    return x_BL",
        "def f():\n    x_BL = torch.ones(2, 3)\n    x_BL = None\n    return x_BL",
    ],
)
def test_true_names_pass(source):
    assert problems(source) == []


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def f():\n    x_BL = torch.ones(2)\n    return x_BL", "x_BL has shape (2,)"),
        ("def f():\n    a_BL, b_LD = torch.ones(2, 3), torch.ones(4, 5)", "L is 3 in a_BL"),
        ("def f():\n    scores_LL = torch.ones(3, 4)", "L is 3 in scores_LL"),
        ("def f():\n    mask_1L = torch.ones(2, 3)", "1 is 1 in broadcasting"),
        ("def f():\n    x_BZ = torch.ones(2, 3)", "Z not in the legend"),
        ("def f(x_BL=torch.ones(2)):\n    return 1", "x_BL has shape (2,)"),
        ("def f():\n    x_BL = torch.ones(2)\n    yield 1", "x_BL has shape (2,)"),
        (
            "def f():\n    x_BL = torch.ones(2)\n    def g():\n        return x_BL\n    return g()",
            "f.<locals>.g",
        ),
    ],
)
def test_false_names_are_found(source, said):
    found = problems(source)
    assert found and said in "\n".join(found)


def test_other_folders_are_not_looked_at():
    source = "def f():\n    x_BL = torch.ones(2)"
    assert problems(source) and not problems(source, folder=Path("/packaged"))


def test_a_refused_tensor_is_no_problem_but_a_caught_refusal_does_not_hide_one():
    refusing = "def f(x_BL):\n    if x_BL.ndim != 2:\n        raise ValueError('two axes')\n    return x_BL"
    function = made(refusing, Path("/package"))
    with ShapeWatch(Path("/package")) as watch, pytest.raises(ValueError, match="two axes"):
        function(torch.ones(2))
    assert watch.problems == []
    with ShapeWatch(Path("/package")) as watch:
        made("def f(x_BL):\n    return x_BL", Path("/package"))(torch.ones(2))
    assert watch.problems


PLANTED = """
from pathlib import Path

import cutaway
import pytest
import torch

def plant():
    space = {"torch": torch}
    source = "def f():\\n    x_BL = torch.ones(2)"
    exec(compile(source, str(Path(cutaway.__file__).parent / "planted.py"), "exec"), space)
    space["f"]()

def test_watched():
    plant()

@pytest.mark.compiled
def test_not_watched():
    plant()
"""


def test_the_unit_tests_are_watched_unless_they_compile(tmp_path):
    shutil.copy(ROOT / "tests/unit/conftest.py", tmp_path)
    (tmp_path / "test_planted.py").write_text(PLANTED)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        ROOT / "pyproject.toml",
        "-p",
        "no:cacheprovider",
        tmp_path,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert "2 passed, 1 error" in done.stdout and "x_BL has shape (2,)" in done.stdout
