"""What a finished run says and leaves: its figures beside what counting reaches, a sample, the report."""

from dataclasses import dataclass

from cutaway import spec
from cutaway.data.baseline import trigram_bits, unigram_bits
from cutaway.data.tokenizer import Tokenizer
from cutaway.generate import Sampling, complete
from cutaway.models import AnyModel, Paired
from cutaway.session import load
from cutaway.study.report import write_report
from cutaway.train.runner import Result
from cutaway.train.task import Language, make_task

SAMPLE_TOKENS = 160
REPORT_TOKENS = 256
STRINGS = ("Rcutaway", "Scutaway")  # reverse and sort


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


def sample(model: AnyModel, tokenizer: Tokenizer) -> str:
    """A text the model writes: always with the same random numbers, so that samples of a run compare."""
    sampling = Sampling(temperature=0.8, top_p=0.95, seed=0)
    if isinstance(model, Paired):
        written = complete(model, tokenizer, STRINGS, max_tokens=32, sampling=Sampling(temperature=0))
        return "\n".join(f"{given} -> {text.text}" for given, text in zip(STRINGS, written, strict=True))
    start = "" if tokenizer.end is not None else "\n"
    return start + complete(model, tokenizer, [start], max_tokens=SAMPLE_TOKENS, sampling=sampling)[0].text


def conclude(recipe: spec.Recipe, result: Result) -> Outcome:
    """Measures what counting alone reaches, takes a last sample, writes the report."""
    session = load(result.out)
    task = make_task(recipe.data, recipe.run, session.tokenizer)
    text: str | tuple[str, str]
    if isinstance(task, Language):
        tokens = task.validation.tokens
        bits = {"unigram": unigram_bits, "trigram": trigram_bits}
        baselines = {
            f"{name}_bits_per_byte": count(task.train.tokens, tokens, task.vocab) / task.validation.bytes
            for name, count in bits.items()
        }
        most = min(REPORT_TOKENS, recipe.run.length)
        text = session.tokenizer.decode(tokens[:most])
    else:
        baselines = {}
        text = (STRINGS[0], STRINGS[0][:0:-1])
    report = result.out / "report.html"
    write_report(session, text, report, run=result.out)
    return Outcome(
        str(result.out),
        result.figures,
        baselines,
        result.counters["seconds"],
        int(result.counters["tokens"]),
        sample(session.model, session.tokenizer),
        str(report),
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
        f"report: {outcome.report}",
    ]
    return lines
