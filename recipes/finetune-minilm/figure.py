"""Validation loss of every committed seed: python figure.py [OUT]."""

import sys
from pathlib import Path

from cutaway.app.curve import draw_curves

if __name__ == "__main__":
    print(draw_curves(Path(__file__).parent, Path(sys.argv[1]) if sys.argv[1:] else None))
