"""From a recipe's data record to the task it means, and what a run's facts say of it."""

from cutaway import spec
from cutaway.data import tokenizer
from cutaway.data.loading import roles_of
from cutaway.errors import ConfigError
from cutaway.train.classifying import LABELS, Classifying
from cutaway.train.conversing import Conversing
from cutaway.train.language import Language
from cutaway.train.masked import Masking
from cutaway.train.reversing import Reversing
from cutaway.train.start import FACT, Start
from cutaway.train.task import Task
from cutaway.train.translating import Translating


def make_task(
    plan: spec.Data,
    run: spec.Run,
    known: tokenizer.Tokenizer | None = None,
    template: str | None = None,
) -> Task:
    """The task of a recipe's data record; `known` is the tokenizer, and `template` the chat template, of a
    run that goes on or of what one begins with.
    """
    match plan:
        case spec.Text():
            return Language(plan, run, known)
        case spec.Reversal():
            return Reversing(plan, run)
        case spec.Parallel():
            return Translating(plan, run, known)
        case spec.MaskedText():
            return Masking(plan, run, known)
        case spec.Labelled():
            return Classifying(plan, run, known)
        case spec.Conversations():
            return Conversing(plan, run, known, template)
        case _:
            raise ConfigError(
                f"data {type(plan).__name__}: known are Text, Reversal, Parallel, MaskedText, Labelled and "
                "Conversations"
            )


def facts_of(task: Task, start: Start | None) -> dict[str, object]:
    """What makes a task repeatable: digests of its data, its tokenizer and the weights it starts from, with
    the roles that tokens have there; of a classification also the names of its classes, in the order in which
    the model scores them.
    """
    facts: dict[str, object] = {"data": task.digest, "tokenizer": task.tokenizer.digest}
    if start is not None:
        facts |= {FACT: start.digest, "roles": roles_of(task.tokenizer)}
    if isinstance(task, Classifying):
        facts[LABELS] = task.labels
    return facts


def labels_of(task: Task) -> tuple[str, ...]:
    """The names of the classes that a task sorts into, if it sorts."""
    return task.labels if isinstance(task, Classifying) else ()


def details_of(task: Task) -> dict[str, str]:
    """Of figures that a number alone does not tell, by name, how the last `judge` counted them."""
    return task.details if isinstance(task, Translating) else {}
