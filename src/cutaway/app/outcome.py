"""What a finished run says and leaves: its figures beside what counting reaches, a sample, the report."""

from dataclasses import dataclass

from cutaway import spec
from cutaway.data.baseline import trigram_bits, unigram_bits
from cutaway.errors import CutawayError
from cutaway.session import load
from cutaway.study.report import write_report
from cutaway.train.language import Language
from cutaway.train.progress import Reporter
from cutaway.train.runner import Result
from cutaway.train.tasks import make_task


@dataclass(frozen=True)
class Outcome:
    """A run's end: the folder, the figures of the whole validation data, baselines on the same, a sample."""

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
    task = make_task(recipe.data, recipe.run, session.tokenizer)
    baselines: dict[str, float] = {}
    if isinstance(task, Language):
        tokens = task.validation.tokens
        bits = {"unigram": unigram_bits, "trigram": trigram_bits}
        baselines = {
            f"{name}_bits_per_byte": count(task.train.tokens, tokens, task.vocab) / task.validation.bytes
            for name, count in bits.items()
        }
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
        baselines,
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
    if baselines:
        counted = ", ".join(f"{name.split('_')[0]} {value:.3f}" for name, value in baselines.items())
        lines.append(f"bits per byte: {figures['bits_per_byte']:.3f}; by counting alone: {counted}")
    lines += [
        f"trained on {outcome.tokens:,} tokens in {outcome.seconds:.0f} s",
        "a sample:",
        *("  | " + line for line in outcome.sample.split("\n")),
    ]
    if outcome.report:
        lines.append(f"report: {outcome.report}")
    return lines
