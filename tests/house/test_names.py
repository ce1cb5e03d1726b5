"""Public names: what a package binds without an underscore is what `__all__` says, and it is there."""

import ast
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

import cutaway
from tests.house.tree import PACKAGE, ROOT, modules

PACKAGES = [m for m in modules() if m.name == "__init__.py" and m.parent != PACKAGE]


def bound(source: str) -> set[str]:
    """The public names a source binds at its top level; someone else's import is not an offer of ours."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.ImportFrom) and (
            node.level or (node.module or "").split(".")[0] == "cutaway"
        ):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {
                n.id
                for target in targets
                for n in ast.walk(target)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("path", PACKAGES, ids=lambda path: path.parent.relative_to(PACKAGE).as_posix())
def test_all_says_what_the_package_offers(path):
    package = import_module(".".join(path.parent.relative_to(PACKAGE.parent).parts))
    said = list(getattr(package, "__all__", []))
    assert set(said) == bound(path.read_text())
    assert len(said) == len(set(said))
    assert [name for name in said if not hasattr(package, name)] == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("from cutaway.spec import Stack", {"Stack"}),
        ("from cutaway.nn import norm as _norm", set()),
        ("from collections.abc import Callable", set()),
        ("from .x import y as z", {"z"}),
        ("import math\nTAU = 2 * math.pi\nkinds: dict[str, int] = {}", {"TAU", "kinds"}),
        ("import sys\nsys.modules[__name__].__class__ = dict", set()),
        ("a, (b, _c) = 1, (2, 3)\nclass D: e = 1\ndef f(): g = 2", {"a", "b", "D", "f"}),
    ],
)
def test_bound_names(source, names):
    assert bound(source) == names


@pytest.mark.parametrize("name", cutaway.__all__)
def test_every_public_name_arrives(name):
    assert getattr(cutaway, name) is not None
    assert name in dir(cutaway)


def test_train_is_callable_before_and_after_its_modules_are_imported():
    """Importing cutaway.train binds the package to the name of the call, so the package must be the call."""
    code = "import cutaway as ca, sys; assert callable(ca.train); import cutaway.train.loop; "
    code += "assert callable(ca.train) and ca.train is sys.modules['cutaway.train']"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        cutaway.lode  # noqa: B018


def test_version_is_a_version_and_the_changelog_knows_it():
    assert cutaway.__version__.count(".") == 2
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["version"]["path"] == "src/cutaway/__init__.py"
    assert f"## [{cutaway.__version__}]" in (ROOT / "CHANGELOG.md").read_text()
