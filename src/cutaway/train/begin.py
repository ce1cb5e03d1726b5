"""What a run begins with: its task, its model with what is not to be trained standing still, its facts."""

from dataclasses import dataclass, replace
from pathlib import Path

from cutaway import spec
from cutaway.models import AnyModel, Pair, build
from cutaway.models.adapt import still, trained
from cutaway.train import records
from cutaway.train.choose import Choice, choose, choose_device
from cutaway.train.facts import gather_facts
from cutaway.train.progress import Reporter
from cutaway.train.start import Start, leave_to_train, read_start
from cutaway.train.task import Task
from cutaway.train.tasks import facts_of, labels_of, make_task


@dataclass(frozen=True)
class Begun:
    """A run in front of its first step; `recipe` is the resolved one."""

    recipe: spec.Recipe
    task: Task
    model: AnyModel
    choice: Choice
    facts: dict[str, object]
    template: str | None  # of chats

    def write(self, out: Path) -> dict[str, object]:
        """Write the directory's fixed files; returns the facts as written."""
        frozen = {name: parameter.detach() for name, parameter in still(self.model).items()}
        return records.write_records(out, self.recipe, self.facts, self.task.tokenizer, self.template, frozen)


def begin(recipe: spec.Recipe, out: Path, say: Reporter) -> Begun:
    """Make the task and the model, choose how to compute; nothing is written yet."""
    records.check_new(out)
    choose_device(recipe.run.device)  # so that one that is not there is told before the data is prepared
    say.say(f"{recipe.name}: preparing the data")
    start = read_start(recipe.start)
    known, template = (start.tokenizer, start.template) if start else (None, None)
    task = make_task(recipe.data, recipe.run, known, template)
    for notice in task.notices:
        say.warn(f"{recipe.name}: {notice}")
    recipe = replace(recipe, model=fitted(recipe, task, start), head=None)
    model, new = build(asked(recipe), recipe.run.seed), []
    if start is not None:
        new = start.take(model, labels_of(task))
        say.say(f"{recipe.name}: {start.told(model, new)}")
    leave_to_train(model, recipe, new)
    if isinstance(model, Pair):
        model.check_decodes()  # it is judged by what it writes
    choice = choose(model, recipe.run, *task.typical)
    facts = {
        **gather_facts(),
        **choice.facts(),
        "seed": recipe.run.seed,
        **facts_of(task, start),
        **counts_of(model),
    }
    return Begun(recipe, task, model, choice, facts, template)


def asked(recipe: spec.Recipe) -> spec.Model:
    """The model of a recipe that is resolved."""
    assert recipe.model is not None
    return recipe.model


def fitted(recipe: spec.Recipe, task: Task, start: Start | None) -> spec.Model:
    """The model that a recipe asks for, or that of its start, fitted to its data."""
    if start is None:
        return task.fitted(asked(recipe))
    return start.widened(task.fitted(start.model_of(recipe)))


def counts_of(model: AnyModel) -> dict[str, int]:
    """How many parameters there are, and where some stand still, how many are trained."""
    counts = {"parameters": sum(parameter.numel() for parameter in model.parameters())}
    if still(model):
        counts["trained"] = sum(parameter.numel() for parameter in trained(model).values())
    return counts
