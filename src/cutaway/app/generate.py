"""`cutaway generate -m RUN "prompt"`: what a model writes, handed out as it is written."""

import json
import secrets
import sys
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from cutaway.app.options import Flag, option, parse, read_text


@dataclass(frozen=True)
class Options:
    """Write text with a model. The prompt is the argument, or standard input where it is a dash."""

    model: Annotated[str, option(aliases=["-m"], help="a run, or anything else `cutaway.load` takes")]
    prompt: tyro.conf.Positional[str] = ""
    max_tokens: Annotated[int, option(help="write at most this many")] = 128
    temperature: Annotated[float, option(help="0 takes the most likely token")] = 1.0
    top_k: Annotated[int | None, option(help="draw from the k most likely only")] = None
    top_p: Annotated[float | None, option(help="draw from the fewest that reach this share")] = None
    min_p: Annotated[
        float | None, option(help="leave out what is less likely than this share of the best")
    ] = None
    repetition_penalty: Annotated[float, option(help="above 1: what was said becomes less likely")] = 1.0
    stop: Annotated[tuple[str, ...], option(help="strings in front of which the text ends")] = ()
    seed: Annotated[int | None, option(help="the same seed writes the same text")] = None
    compile: Annotated[Flag, option(help="slow at first, then faster: for long texts")] = False
    json: Annotated[Flag, option(help="one JSON object when all is written")] = False


def run(arguments: list[str]) -> int:
    """Streams the text to standard output, or prints it with its tokens as JSON."""
    options = parse(Options, arguments, "cutaway generate")
    prompt = read_text(options.prompt) if options.prompt == "-" else options.prompt
    from cutaway.generate import Sampling, complete, stream
    from cutaway.session import load

    sampling = Sampling(
        options.temperature,
        options.top_k,
        options.top_p,
        options.min_p,
        options.repetition_penalty,
        secrets.randbits(63) if options.seed is None else options.seed,
    )
    session = load(options.model)
    if options.compile:
        session.compile()
    given = {"max_tokens": options.max_tokens, "sampling": sampling, "stop": options.stop}
    if options.json:
        written = complete(session.model, session.tokenizer, [prompt], **given)[0]
        print(json.dumps({"prompt": prompt, "seed": sampling.seed, **asdict(written)}))
        return 0
    for piece in stream(session.model, session.tokenizer, prompt, **given):
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0
