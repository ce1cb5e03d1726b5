"""What a start costs: `import cutaway` and every `--help` answer without torch."""

import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "tokenizers", "numpy", "matplotlib"}

# The modules go to standard error: standard output belongs to the command.
COMMAND = """
import sys
sys.argv = ["cutaway", *{arguments!r}]
from cutaway.__main__ import main
try:
    code = main()
except SystemExit as leaving:
    code = leaving.code
assert code in (0, None), code
"""


def loaded(code: str) -> set[str]:
    """The top-level modules of a fresh interpreter that has run `code`."""
    code += "\nimport sys\nprint('LOADED', *{name.split('.')[0] for name in sys.modules}, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("LOADED")[2].split())


def test_import_loads_nothing_heavy():
    assert loaded("import cutaway") & (HEAVY | {"rich", "tyro", "cattrs"}) == set()


def test_spec_loads_no_torch():
    assert loaded("from cutaway import spec, errors; spec.PRESETS") & {"torch"} == set()


def test_something_heavy_would_be_seen():
    assert "numpy" in loaded("import cutaway, numpy")


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["generate", "--help"]], ids=" ".join)
def test_help_loads_no_torch(arguments):
    assert loaded(COMMAND.format(arguments=arguments)) & (HEAVY - {"numpy"}) == set()
