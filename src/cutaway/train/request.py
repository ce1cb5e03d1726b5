"""`cutaway.train("stdlib", steps=200)`: what `cutaway train` does to a recipe, asked for from Python."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cutaway import spec
from cutaway.data.download import with_local_data
from cutaway.errors import ConfigError, nearest
from cutaway.spec.check import check_recipe
from cutaway.spec.read import read_recipe
from cutaway.spec.recipes import find_recipe, folder_of, with_start_beside
from cutaway.train.progress import Reporter
from cutaway.train.records import RECIPE, check_asked
from cutaway.train.runner import Result, Runner


def train_recipe(
    recipe: str | Path | spec.Recipe,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    start: str | Path | None = None,
    say: Reporter | None = None,
    **run: Any,
) -> Result:
    """Train a recipe, given by name, by path or as a record, with some values of its `run` replaced.

    The run's directory is `out`, or runs/NAME, of a group's member runs/GROUP/NAME; `cutaway.load` takes the
    result. It begins with the weights of the run `start`, "" for random ones; if nothing is given, with those
    the recipe names, of a group's member the run beside `out`. The report is `cutaway.study`'s to write. With
    `resume` the values given, and the whole of a record, must be those the run was begun with. Raises
    ConfigError for an unknown recipe, key or value, or one that is not the run's, InputMissingError where the
    run to begin with is not there, and what `Runner.train` raises.
    """
    name = "" if isinstance(recipe, spec.Recipe) else recipe
    if not isinstance(recipe, spec.Recipe):
        recipe = read_recipe(find_recipe(recipe))
    known = [field.name for field in fields(spec.Run)]
    for key in run:
        if key not in known:
            raise ConfigError(f"train: {key} is no value of a run; {nearest(key, known)}")
    begin = recipe.start if start is None else str(start)
    recipe = replace(recipe, run=replace(recipe.run, **run), start=begin)
    check_recipe(recipe, "train")
    folder = folder_of(name, recipe) if out is None else Path(out)
    if resume and (folder / RECIPE).is_file():
        stored = read_recipe(folder / RECIPE)
        begin = stored.start if start is None else begin
        of_name = replace(stored, name=recipe.name, run=replace(stored.run, **run), start=begin)
        check_asked(folder, stored, of_name if name else with_local_data(recipe))
    else:
        recipe = with_local_data(recipe if resume else with_start_beside(name, recipe, folder))
    return Runner(recipe, folder, say=say).train(resume)
