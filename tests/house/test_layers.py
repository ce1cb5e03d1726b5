"""Imports run upward only, and the parts that need no torch name none."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.tree import PACKAGE, ROOT, called, imported, inside, modules, named

TORCH_FREE = ("errors", "store", "spec", "formal", "data")


def contracts(source: Path, configuration: Path) -> tuple[int, str]:
    """Exit code and report of import-linter for the package that lies in `source`."""
    command = [
        Path(sys.executable).with_name("lint-imports"),
        "--no-logo",
        "--no-cache",
        "--config",
        configuration,
    ]
    environment = os.environ | {"PYTHONPATH": str(source)}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_contracts_are_kept():
    code, report = contracts(ROOT / "src", ROOT / "pyproject.toml")
    assert code == 0, report


TORCH = "def later():\n    import torch\n"


@pytest.mark.parametrize(
    ("place", "planted", "broken"),
    [
        ("errors.py", "from cutaway import spec", "Imports run upward only BROKEN"),
        ("errors.py", TORCH, "need no torch BROKEN"),
        *((f"{part}/__init__.py", TORCH, "need no torch BROKEN") for part in TORCH_FREE if part != "errors"),
    ],
)
def test_a_planted_import_breaks_a_contract(tmp_path, place, planted, broken):
    shutil.copytree(PACKAGE, tmp_path / "cutaway", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "cutaway" / place).open("a") as file:
        file.write(f"\n{planted}\n")
    code, report = contracts(tmp_path, ROOT / "pyproject.toml")
    assert code == 1 and broken in " ".join(report.split()), report


def test_a_part_nobody_placed_breaks_the_contract(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "cutaway", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "cutaway/somewhere.py").write_text("")
    code, report = contracts(tmp_path, ROOT / "pyproject.toml")
    assert code == 1 and "somewhere" in report, report


def breaches(source: str, forbidden: str) -> list[int]:
    """The lines of `source` that import `forbidden` or something in it."""
    return [n for n, name in imported(ast.parse(source)) if f"{name}.".startswith(f"{forbidden}.")]


def test_the_torch_free_parts_name_no_torch():
    """Beside import-linter, which needs each part to exist before it can be forbidden anything."""
    assert {named(m): at for m in inside(*TORCH_FREE) if (at := breaches(m.read_text(), "torch"))} == {}


def test_nn_knows_nothing_of_distribution():
    """import-linter sees other people's packages whole, hence by hand."""
    found = {}
    for module in inside("nn"):
        source = module.read_text()
        by_attribute = [n for n, name in called(ast.parse(source)) if name.startswith("torch.distributed.")]
        if at := breaches(source, "torch.distributed") + by_attribute:
            found[named(module)] = at
    assert found == {}


def test_nothing_below_app_prints_or_parses_arguments():
    found = {}
    for module in set(modules()) - set(inside("app")):
        source = module.read_text()
        prints = [n for n, name in called(ast.parse(source)) if name in ("print", "sys.stdout.write")]
        if at := prints + breaches(source, "argparse") + breaches(source, "tyro"):
            found[named(module)] = at
    assert found == {}


@pytest.mark.parametrize(
    "line",
    ["import torch", "import torch.nn as nn", "from torch import nn", "def f():\n    from torch.x import y"],
)
def test_a_planted_import_would_be_found(line):
    assert breaches(line, "torch")


@pytest.mark.parametrize(
    "line", ["import torchvision", "from cutaway import torch_free", "x = 'import torch'"]
)
def test_another_name_is_not_taken_for_it(line):
    assert not breaches(line, "torch")
