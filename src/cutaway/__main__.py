"""`cutaway ...`, `python -m cutaway ...` and `torchrun -m cutaway ...`: all three enter here."""

import sys


def main() -> int:
    from cutaway.app.cli import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
