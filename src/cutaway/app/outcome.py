"""What a finished run says and leaves: its figures beside what counting reaches, a sample, the report."""

from dataclasses import dataclass

from cutaway import spec
from cutaway.data.baseline import trigram_bits, unigram_bits
from cutaway.data.tasks import ALPHABET, TASKS
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import CutawayError, LimitError
from cutaway.generate import Sampling, complete
from cutaway.generate.decode import positions
from cutaway.models import AnyModel, Paired
from cutaway.session import load
from cutaway.study.report import write_report
from cutaway.train.progress import Reporter
from cutaway.train.runner import Result
from cutaway.train.task import Language, make_task

SAMPLE_TOKENS = 160
STRING_TOKENS = 32
REPORT_TOKENS = 256
WORD = "cutaway"  # to be reversed and sorted


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
    if isinstance(model, Paired):
        given, tokens = strings(model, tokenizer), min(STRING_TOKENS, room(model))
        written = complete(model, tokenizer, given, max_tokens=tokens, sampling=Sampling(temperature=0))
        return "\n".join(f"{one} -> {text.text}" for one, text in zip(given, written, strict=True))
    sampling = Sampling(temperature=0.8, top_p=0.95, seed=0)
    start, tokens = beginning(tokenizer), min(SAMPLE_TOKENS, room(model))
    return start + complete(model, tokenizer, [start], max_tokens=tokens, sampling=sampling)[0].text


def room(model: AnyModel) -> int:
    """How many tokens the model has positions for behind the first, on either side."""
    return (positions(model) or SAMPLE_TOKENS + 1) - 1


def beginning(tokenizer: Tokenizer) -> str:
    """What a sample begins with: a document's beginning, a newline, or where there is neither any token."""
    if tokenizer.end is not None:
        return ""
    try:
        tokenizer.encode("\n")
    except LimitError:
        return tokenizer.decode([0])
    return "\n"


def strings(model: AnyModel, tokenizer: Tokenizer) -> tuple[str, ...]:
    """An example of each of the tasks on strings, in the letters the tokenizer knows, as long as fits."""
    letters = [letter for letter in ALPHABET if tokenizer.inner.token_to_id(letter) is not None]
    word = "".join(letters[ALPHABET.index(letter) % len(letters)] for letter in WORD)
    return tuple(task + word[: room(model)] for task in TASKS)


def conclude(recipe: spec.Recipe, result: Result, say: Reporter) -> Outcome:
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
        source = strings(session.model, session.tokenizer)[0]
        text = (source, source[:0:-1])
    report = result.out / "report.html"
    write_report(session, text, report, run=result.out)
    written = ""
    try:
        written = sample(session.model, session.tokenizer)
    except CutawayError as problem:
        say.warn(f"no sample: {problem}")
    return Outcome(
        str(result.out),
        result.figures,
        baselines,
        result.counters["seconds"],
        int(result.counters["tokens"]),
        written,
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
