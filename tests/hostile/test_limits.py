"""Headers and configs that declare 2^20 to 2^62 numbers are refused before anything is allocated."""

import json
import subprocess
import sys

from tests.house.tree import ROOT

MOST_SECONDS = 1.0


def test_huge_declared_shapes_are_refused_with_little_memory(tmp_path):
    command = [sys.executable, "-m", "tests.hostile.declared", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3_000:]
    found = json.loads(done.stdout)  # empty where the limit did not hold
    assert len(found) > 500
    assert {name: how for name, (how, _) in found.items() if how != "refused"} == {}
    assert {name: seconds for name, (_, seconds) in found.items() if seconds > MOST_SECONDS} == {}
