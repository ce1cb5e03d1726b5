"""From a recipe's data record to the task it means, and what a run's facts say of it."""

from cutaway import spec
from cutaway.data import tokenizer
from cutaway.errors import ConfigError
from cutaway.train.classifying import LABELS, Classifying
from cutaway.train.language import Language
from cutaway.train.masked import Masking
from cutaway.train.reversing import Reversing
from cutaway.train.start import FACT, Start
from cutaway.train.task import Task
from cutaway.train.translating import Translating


def make_task(plan: spec.Data, run: spec.Run, known: tokenizer.Tokenizer | None = None) -> Task:
    """The task of a recipe's data record; `known` is the tokenizer of a run that goes on."""
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
        case _:
            raise ConfigError(
                f"data {type(plan).__name__}: known are Text, Reversal, Parallel, MaskedText and Labelled"
            )


def facts_of(task: Task, start: Start | None) -> dict[str, object]:
    """What makes a task repeatable: digests of its data, its tokenizer and the weights it starts from; of a
    classification also the names of its classes, in the order in which the model scores them.
    """
    facts: dict[str, object] = {"data": task.digest, "tokenizer": task.tokenizer.digest}
    if start is not None:
        facts[FACT] = start.digest
    if isinstance(task, Classifying):
        facts[LABELS] = task.labels
    return facts
