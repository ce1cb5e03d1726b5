"""`python -m benchmarks NAME ...`: runs the named benchmarks and prints their figures."""

import argparse
import importlib
from pathlib import Path

from benchmarks.figure import show
from benchmarks.session import Session

NAMES = ("train_throughput", "loss_curve", "time_to_loss", "decode", "trace_overhead", "import_time")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", choices=NAMES, default=NAMES, metavar="NAME", help=f"of {', '.join(NAMES)}"
    )
    parser.add_argument("--rounds", type=int, default=Session.rounds, help="turns each side gets")
    parser.add_argument("--threads", type=int, default=Session.threads)
    parser.add_argument(
        "--tiny", action="store_true", help="a tiny shape: tries the harness, measures nothing"
    )
    parser.add_argument("--text", type=Path, default=Session.text, help="tinyshakespeare, for time_to_loss")
    parser.add_argument("--seeds", type=int, nargs="+", default=Session.seeds, help="for time_to_loss")
    parser.add_argument("--out", type=Path, help="append the JSON lines to this file")
    given = parser.parse_args()
    for name in given.names:
        session = Session(given.rounds, given.threads, given.tiny, given.text.resolve(), tuple(given.seeds))
        session.note_load()
        figures = importlib.import_module(f"benchmarks.{name}").run(session)
        show(figures, session.notes, given.out)


if __name__ == "__main__":
    main()
