"""`cutaway report -m RUN`: the page about a text of one's own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cutaway.app.options import option, parse, read_text
from cutaway.errors import ConfigError


@dataclass(frozen=True)
class Options:
    """Write one self-contained page: what a model makes of a text, and how it was trained."""

    model: Annotated[str, option(aliases=["-m"], help="a run, or anything else `cutaway.load` takes")]
    text: Annotated[str, option(help="a file, or - for standard input")] = "-"
    target: Annotated[str | None, option(help="a file with the target, for an encoder-decoder")] = None
    out: Annotated[Path, option(help="the page")] = Path("report.html")


def run(arguments: list[str]) -> int:
    """Writes the page and says where."""
    options = parse(Options, arguments, "cutaway report")
    source = read_text(options.text)
    text = source if options.target is None else (source, read_text(options.target))
    from cutaway.models.pair import Pair
    from cutaway.session import load
    from cutaway.study.report import write_report

    session = load(options.model)
    if isinstance(session.model, Pair) != (options.target is not None):
        need = "reads a source and writes a target" if options.target is None else "reads one text"
        remedy = "name a file with the target" if options.target is None else "leave the option out"
        raise ConfigError(f"--target: {options.model} {need}; {remedy}")
    metrics = Path(options.model) / "metrics.jsonl"
    write_report(session, text, options.out, run=options.model if metrics.is_file() else None)
    print(f"report: {options.out}")
    return 0
