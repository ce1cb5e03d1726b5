"""The package's nn and models with every tap taken out of the source, to measure compiled code against."""

import ast
import shutil
from pathlib import Path

from tests.house.tree import PACKAGE

NAME = "cutaway_stripped"
TAPS = {"tap", "inner", "off", "standing", "Tap"}
_KEPT = {"sites.py"}  # finds the taps of a model, which is not part of running one


class Strip(ast.NodeTransformer):
    """`tap(name, value)` becomes `value`; arguments, parameters and statements about taps go."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        arguments = node.args
        spare = len(arguments.args) - len(arguments.defaults)
        kept = [(a, i) for i, a in enumerate(arguments.args) if a.arg != "tap"]
        arguments.defaults = [arguments.defaults[i - spare] for _, i in kept if i >= spare]
        arguments.args = [a for a, _ in kept]
        pairs = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        named = [(a, d) for a, d in pairs if a.arg != "tap"]
        arguments.kwonlyargs, arguments.kw_defaults = [a for a, _ in named], [d for _, d in named]
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        function = node.func
        if isinstance(function, ast.Name) and function.id == "tap":
            return self.visit(node.args[1])
        if isinstance(function, ast.Attribute) and about_taps(function.value):
            return ast.Constant(False)  # wants, edits: nobody does
        node.args = [a for a in node.args if not about_taps(a)]
        node.keywords = [k for k in node.keywords if k.arg != "tap"]
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        return None if about_taps(node.targets[0]) else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        gathers = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute)
        return None if gathers and about_taps(node.value.func.value) else self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        node = self.generic_visit(node)
        never = isinstance(node.test, ast.Constant) and not node.test.value
        return (node.orelse or None) if never else node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "cutaway.tap" else node


def about_taps(node: ast.AST) -> bool:
    """Whether an expression is a tap, or is made from one or from the edits in force."""
    if isinstance(node, ast.Call):
        return about_taps(node.func) and not (isinstance(node.func, ast.Name) and node.func.id == "tap")
    if isinstance(node, ast.Attribute):
        return about_taps(node.value)
    return isinstance(node, ast.Name) and node.id in TAPS


def strip(source: str) -> str:
    """A module's source without its taps."""
    return ast.unparse(ast.fix_missing_locations(Strip().visit(ast.parse(source))))


def write_stripped(folder: Path, name: str = NAME, spoil: tuple[str, str] = ("", "")) -> None:
    """The package under another name in `folder`; `spoil` is a text to replace in its sources."""
    shutil.copytree(PACKAGE, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder / name).rglob("*.py"):
        source = path.read_text()
        inside = path.relative_to(folder / name).parts[0] in ("nn", "models")
        if inside and path.name not in _KEPT:
            source = strip(source)
            left = [node for node in ast.walk(ast.parse(source)) if getattr(node, "id", "") in TAPS]
            assert not left, f"{path.name}: taps are left: {[node.lineno for node in left]}\n{source}"
            source = source.replace(*spoil) if spoil[0] else source
        for ours, its in (
            ("cutaway.", f"{name}."),
            ("cutaway::", f"{name}::"),
            ("from cutaway ", f"from {name} "),
        ):
            source = source.replace(ours, its)
        path.write_text(source)
