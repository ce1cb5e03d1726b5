"""What a finished run says and leaves: its figures beside what counting reaches, a sample, the report."""

from dataclasses import dataclass

from cutaway import spec
from cutaway.errors import CutawayError
from cutaway.session import load
from cutaway.study.report import write_report
from cutaway.train.progress import Reporter
from cutaway.train.runner import Result
from cutaway.train.tasks import make_task


@dataclass(frozen=True)
class Outcome:
    """A run's end: the folder, its figures, what counting reaches on the same data, a sample."""

    out: str
    figures: dict[str, float]
    baselines: dict[str, float]
    seconds: float
    tokens: int
    sample: str
    report: str


def conclude(recipe: spec.Recipe, result: Result, say: Reporter) -> Outcome:
    """Measures what counting alone reaches, takes a last sample, writes the report."""
    session = load(result.out)
    task = make_task(recipe.data, recipe.run, session.tokenizer, session.template)
    report = ""
    if (text := task.shown()) is not None:
        report = str(result.out / "report.html")
        write_report(session, text, result.out / "report.html", run=result.out)
    written = ""
    try:
        written = task.sample(session.model)
    except CutawayError as problem:
        say.warn(f"no sample: {problem}")
    return Outcome(
        str(result.out),
        result.figures,
        task.baselines(),
        result.counters["seconds"],
        int(result.counters["tokens"]),
        written,
        report,
    )


def describe(outcome: Outcome) -> list[str]:
    """The outcome in lines for people."""
    figures, baselines = outcome.figures, outcome.baselines
    said = [f"{name.replace('_', ' ')} {value:.4f}" for name, value in figures.items()]
    lines = [f"whole validation data: {', '.join(said)}"]
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


def about(baseline: str, figures: dict[str, float]) -> str:
    """The figure that a baseline's name ends in: the longest, as in bag_of_words_test_accuracy."""
    return max((name for name in figures if baseline.endswith(f"_{name}")), key=len, default="")
