"""Notebooks, cell by cell: as a program whose cells can be replaced, or in a kernel, as readers run them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jupytext
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt


@dataclass
class Play:
    """The cells of the notebook, and what was known before each of them ran."""

    cells: list[str]
    known: list[dict[str, Any]] = field(default_factory=list)
    pictures: int = 0

    def run(self, number: int, source: str, space: dict[str, Any]) -> None:
        exec(compile(source, f"cell {number}", "exec"), space)
        for figure in map(plt.figure, plt.get_fignums()):
            figure.canvas.draw()  # a sign the font does not have warns only here
            self.pictures += 1
        plt.close("all")

    def all(self) -> None:
        space: dict[str, Any] = {"__name__": "__main__"}
        for number, source in enumerate(self.cells):
            self.known.append(dict(space))
            self.run(number, source, space)

    def with_mistake(self, right: str, wrong: str) -> None:
        """From the first cell that holds `right` on, with `wrong` in its place there."""
        start = next(number for number, source in enumerate(self.cells) if right in source)
        space = dict(self.known[start])
        for number, source in enumerate(self.cells[start:], start):
            self.run(number, source.replace(right, wrong) if number == start else source, space)


def cells_of(notebook: Path) -> list[str]:
    return [cell.source for cell in jupytext.read(notebook).cells if cell.cell_type == "code"]


def pictures_in_a_kernel(notebook: Path, folder: Path, **variables: str) -> int:
    """Runs a notebook in a kernel; how many pictures it shows."""
    made = folder / notebook.with_suffix(".ipynb").name
    environment: Mapping[str, str] = {**os.environ, **variables}
    environment = {
        name: value for name, value in environment.items() if name != "MPLBACKEND"
    }  # its own shows
    for command in (
        [sys.executable, "-m", "jupytext", "--to", "ipynb", "--output", made, notebook],
        [Path(sys.executable).with_name("jupyter-execute"), "--inplace", made],
    ):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-2000:]
    shown = [output for cell in jupytext.read(made).cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in shown)
