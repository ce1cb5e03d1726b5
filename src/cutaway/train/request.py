"""`cutaway.train("stdlib", steps=200)`: what `cutaway train` does to a recipe, asked for from Python."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cutaway import spec
from cutaway.data.download import with_local_data
from cutaway.errors import ConfigError, nearest
from cutaway.spec.check import check_recipe
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import find_recipe
from cutaway.train.progress import Reporter
from cutaway.train.records import RECIPE, check_asked
from cutaway.train.runner import Result, Runner


def train_recipe(
    recipe: str | Path | spec.Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    say: Reporter | None = None,
    **run: Any,
) -> Result:
    """Train a recipe, given by name, by path or as a record, with some values of its `run` replaced.

    The run's directory is `out`, or runs/NAME; `cutaway.load` takes the result. The report is
    `cutaway.study`'s to write. With `resume` the values given, and the
    whole of a record, must be those the run was begun with. Raises ConfigError for an unknown recipe, key or
    value, or one that is not the run's, and what `Runner.train` raises.
    """
    named = not isinstance(recipe, spec.Recipe)
    if not isinstance(recipe, spec.Recipe):
        recipe = read_recipe(find_recipe(recipe))
    known = [field.name for field in fields(spec.Run)]
    for key in run:
        if key not in known:
            raise ConfigError(f"train: {key} is no value of a run; {nearest(key, known)}")
    recipe = replace(recipe, run=replace(recipe.run, **run))
    check_recipe(recipe, "train")
    folder = Path("runs") / recipe.name if out is None else Path(out)
    if resume and (folder / RECIPE).is_file():
        stored = read_recipe(folder / RECIPE)
        of_name = replace(stored, name=recipe.name, run=replace(stored.run, **run))
        check_asked(folder, stored, of_name if named else with_local_data(recipe))
    else:
        recipe = with_local_data(recipe)
    return Runner(recipe, folder, say=say).train(resume)
