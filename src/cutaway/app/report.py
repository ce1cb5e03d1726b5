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
    target: Annotated[
        str | None,
        option(help="a file with the target of an encoder-decoder; if not given, what it writes itself"),
    ] = None
    out: Annotated[Path, option(help="the page")] = Path("report.html")


def run(arguments: list[str]) -> int:
    """Writes the page and says where."""
    options = parse(Options, arguments, "cutaway report")
    source = read_text(options.text)
    target = None if options.target is None else read_text(options.target)
    from cutaway.models.pair import Pair
    from cutaway.session import load
    from cutaway.study.report import write_report

    session = load(options.model)
    if isinstance(session.model, Pair):
        source, target = source.rstrip("\r\n"), None if target is None else target.rstrip("\r\n")
    elif target is not None:
        raise ConfigError(f"--target: {options.model} reads one text; leave the option out")
    text = source if target is None else (source, target)
    metrics = Path(options.model) / "metrics.jsonl"
    write_report(session, text, options.out, run=options.model if metrics.is_file() else None)
    print(f"report: {options.out}")
    return 0
