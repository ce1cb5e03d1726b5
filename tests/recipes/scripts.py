"""The scripts beside the recipes, as modules."""

import importlib.util
from types import ModuleType

from tests.house.tree import ROOT


def script(recipe: str, name: str) -> ModuleType:
    """A script of a recipe, or of a group of them; what runs under `__main__` does not."""
    plan = importlib.util.spec_from_file_location(f"{recipe} {name}", ROOT / "recipes" / recipe / name)
    assert plan is not None and plan.loader is not None
    module = importlib.util.module_from_spec(plan)
    plan.loader.exec_module(module)
    return module
