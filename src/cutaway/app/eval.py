"""`cutaway eval -m MODEL --data FILE`: how well a language model predicts a text."""

import json
import math
from dataclasses import dataclass
from typing import Annotated

from cutaway.app.options import Flag, option, parse, read_text


@dataclass(frozen=True)
class Options:
    """Tell how well a model predicts a text: loss, perplexity, bits a byte.

    The text is read in windows of the training length that share nothing; every token but the first is
    scored once.
    """

    model: Annotated[str, option(aliases=["-m"], help="a run, or anything else `cutaway.load` takes")]
    data: Annotated[str, option(help="a file of text, or a dash for standard input")]
    json: Annotated[Flag, option(help="one JSON object")] = False


def run(arguments: list[str]) -> int:
    """Prints the figures, one a line."""
    options = parse(Options, arguments, "cutaway eval")
    text = read_text(options.data)
    from cutaway.session import load

    found = load(options.model).loss(text)
    figures = {
        "loss": found.nats,
        "perplexity": math.exp(found.nats) if found.nats < math.log(1e300) else math.inf,
        "bits_per_byte": found.bits_per_byte,
        "tokens": found.count,
    }
    if options.json:
        whole = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        print(json.dumps({"model": options.model, "data": options.data, **whole}))
        return 0
    print(f"loss {found.nats:.4f} nats a token, perplexity {figures['perplexity']:.3f}")
    print(f"{found.bits_per_byte:.4f} bits a byte, {found.count:,} tokens scored")
    return 0
