"""Where recipes are found: by name among those shipped with the package, or by path."""

import re
from dataclasses import replace
from pathlib import Path

from cutaway.errors import ConfigError, InputMissingError, nearest
from cutaway.spec.run import Recipe

RECIPE = "recipe.toml"


def shipped_recipes() -> dict[str, Path]:
    """The folders of the recipes that came with this copy of Cutaway, by name: NAME, or GROUP/NAME.

    They are `recipes/` of a checkout; inside an installed package the same folder is called `_recipes`.
    """
    if (root := shipped_root()) is None:
        return {}
    files = sorted((*root.glob(f"*/{RECIPE}"), *root.glob(f"*/*/{RECIPE}")))
    return {file.parent.relative_to(root).as_posix(): file.parent for file in files}


def shipped_root() -> Path | None:
    """The folder that holds those of the recipes."""
    package = Path(__file__).parents[1]
    roots = (package / "_recipes", package.parents[1] / "recipes")
    return next((root for root in roots if root.is_dir()), None)


def shipped_groups() -> dict[str, tuple[str, ...]]:
    """The names of the recipes of each group, in the order in which they are run."""
    found: dict[str, tuple[str, ...]] = {}
    for name in shipped_recipes():
        if group := group_of(name):
            found[group] = (*found.get(group, ()), name)
    return found


def group_of(name: str) -> str:
    """The group of a shipped recipe's name, "" where it has none."""
    return name.rpartition("/")[0] if name in shipped_recipes() else ""


def folder_of(name: str | Path, recipe: Recipe) -> Path:
    """Where a recipe is trained if nobody says where: runs/NAME, in a group runs/GROUP/NAME."""
    return Path("runs", group_of(str(name)), recipe.name)


def with_start_beside(name: str | Path, recipe: Recipe, out: Path) -> Recipe:
    """The recipe that `name` found, ready to be trained in `out`: a start that is another member of its group
    is the run of that member in the same folder. Any other start stays as it is.

    Raises InputMissingError where the member has no such run.
    """
    if not recipe.start or Path(recipe.start).exists():
        return recipe
    group, member, beside = group_of(str(name)), recipe.start, out.parent / recipe.start
    if f"{group}/{member}" not in shipped_recipes():
        return recipe
    if beside.exists():
        return replace(recipe, start=str(beside))
    seeds = sorted(str(path) for path in beside.parent.glob(f"{member}-seed-*"))
    others = f"one of {', '.join(seeds)}" if seeds else "another run"
    raise InputMissingError(
        f"start: {beside}: no such run; train {group}/{member} first, or name {others} by start "
        "(start '' begins with random weights)"
    )


def readme_of(path: Path) -> Path | None:
    """The README of a folder that came with the recipes and is none, a measurement, by its name or path."""
    root = shipped_root()
    for folder in (root / path, path.resolve()) if root else ():
        if folder.parent == root and folder.name not in shipped_groups() and (folder / "README.md").is_file():
            return folder / "README.md"
    return None


def find_recipe(name: str | Path) -> Path:
    """The recipe file meant by a shipped recipe's name, a file, or a folder with a `recipe.toml` in it.

    A shipped name wins over a path: write `./stdlib` for a folder of that name. Raises ConfigError, with the
    nearest name, for an unknown name, and InputMissingError for a path that is not there.
    """
    shipped = shipped_recipes()
    if str(name) in shipped:
        return shipped[str(name)] / RECIPE
    if members := shipped_groups().get(str(name)):
        raise ConfigError(f"{name}: a group of recipes; name one of {', '.join(members)}")
    path = Path(name)
    if (path / RECIPE).is_file():
        return path / RECIPE
    if path.is_file():
        return path
    if readme := readme_of(path):
        commands = re.search(r"^```\w*\n(.+)", readme.read_text(encoding="utf-8"), re.MULTILINE)
        how = f"`{commands[1]}`, as {readme} says" if commands else f"as {readme} says"
        raise ConfigError(f"{name}: holds no {RECIPE}, so there is nothing to train; it is run by {how}")
    if path.is_dir():
        raise InputMissingError(
            f"{name}: the folder holds no {RECIPE}; {nearest(str(name), shipped, most=1)}"
        )
    if path.suffix or len(path.parts) != 1:
        raise InputMissingError(f"{name}: no such file or folder; {nearest(path.stem, shipped, most=1)}")
    raise ConfigError(f"recipe {str(name)!r} unknown; {nearest(str(name), shipped, most=1)}")
