"""What a finished run says and leaves: its figures beside what counting reaches, a sample, the report."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cutaway import spec
from cutaway.errors import ConfigError, CutawayError, LimitError
from cutaway.session import Session, load
from cutaway.study.report import write_report
from cutaway.train.progress import Reporter
from cutaway.train.runner import Result
from cutaway.train.task import Task
from cutaway.train.tasks import make_task

VALIDATION = "whole validation data"
PARTS = {"test": "whole test data", "general": "sample of data.general"}  # by how the names of figures begin


@dataclass(frozen=True)
class Outcome:
    """A run's end: the folder, its figures, how some were counted, what counting reaches on the same data, a
    sample, and where the report is, "" where there is none.
    """

    out: str
    figures: dict[str, float]
    details: dict[str, str]
    baselines: dict[str, float]
    seconds: float
    tokens: int
    sample: str
    report: str


def conclude(recipe: spec.Recipe, result: Result, say: Reporter) -> Outcome:
    """Measures what counting alone reaches, takes a last sample, writes the report.

    What cannot be sampled or shown is a warning: the run is finished all the same.
    """
    session = load(result.out)
    task = make_task(recipe.data, recipe.run, session.tokenizer, session.template)
    report = page(session, task, result.out, say)
    written = ""
    try:
        written = task.sample(session.model)
    except CutawayError as problem:
        say.warn(f"no sample: {problem}")
    return Outcome(
        str(result.out),
        result.figures,
        result.details,
        task.baselines(),
        result.counters["seconds"],
        int(result.counters["tokens"]),
        written,
        report,
    )


def page(session: Session, task: Task, out: Path, say: Reporter) -> str:
    """Writes report.html and says where it is; warns and returns "" where the model or data have nothing to
    show. A disk that refuses it is an error.
    """
    path = out / "report.html"
    if (text := task.shown()) is None:
        say.warn("no report: no validation example has words to be shown")
        return ""
    try:
        write_report(session, text, path, run=out)
    except (ConfigError, LimitError) as problem:
        say.warn(f"no report: {problem}")
        return ""
    return str(path)


def describe(outcome: Outcome) -> list[str]:
    """The outcome in lines for people."""
    figures, baselines = outcome.figures, outcome.baselines
    lines = []
    for part, names in parts(figures).items():
        said = ", ".join(f"{name.replace('_', ' ')} {figures[name]:.4f}" for name in names)
        lines.append(f"{part}: {said}")
    lines += [f"{name.replace('_', ' ')}: {told}" for name, told in outcome.details.items()]
    for measure, value in figures.items():
        counted = {
            name.removesuffix(f"_{measure}"): v
            for name, v in baselines.items()
            if about(name, figures) == measure
        }
        if counted:
            told = ", ".join(f"{name.replace('_', ' ')} {other:.3f}" for name, other in counted.items())
            lines.append(f"{measure.replace('_', ' ')}: {value:.3f}; by counting alone: {told}")
    lines += [
        f"trained on {outcome.tokens:,} tokens in {outcome.seconds:.0f} s",
        "a sample:",
        *("  | " + line for line in outcome.sample.split("\n")),
    ]
    if outcome.report:
        lines.append(f"report: {outcome.report}")
    return lines


def parts(figures: Iterable[str]) -> dict[str, list[str]]:
    """The names of figures by the data they are of, in the order in which they come."""
    found: dict[str, list[str]] = {}
    for name in figures:
        found.setdefault(PARTS.get(name.partition("_")[0], VALIDATION), []).append(name)
    return found


def about(baseline: str, figures: dict[str, float]) -> str:
    """The figure that a baseline's name ends in: the longest, as in bag_of_words_test_accuracy."""
    return max((name for name in figures if baseline.endswith(f"_{name}")), key=len, default="")
