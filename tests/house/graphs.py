"""The graphs that torch.compile makes of tiny models, made in a process of their own.

Torch's tracer and Python 3.11 have crashed together once in some hundred runs: a child that dies by a signal
takes no test with it, and is asked a second time. What it prints is judged like any other answer.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from cutaway.tap import Recorder
from tests.house.tree import ROOT
from tests.unit.tiny import SIZES, plan, reads

Job = tuple[str, str, bool, str]  # package, preset, training or not, the site to record or ""


def graphs(*jobs: Job, beside: Path) -> list[str]:
    """The code of each job's graph; `beside` is the folder of packages other than cutaway."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.house.graphs", json.dumps(jobs)]
    environment = os.environ | {"PYTHONPATH": str(beside)}
    for _ in range(2):
        child = subprocess.run(
            command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240
        )
        if child.returncode >= 0:
            break
    assert child.returncode == 0, child.stderr
    return json.loads(child.stdout)


def graph(package: str, preset: str, training: bool, look: str) -> str:
    """The code of one graph."""
    codes: list[str] = []

    def capture(module: torch.fx.GraphModule, example: object) -> object:
        codes.append(module.code)
        return module.forward

    presets = importlib.import_module(f"{package}.spec").PRESETS
    build = importlib.import_module(f"{package}.models").build
    model = build(presets[preset](**SIZES[preset])).train(training)
    inputs = [x.float() if x.is_floating_point() else x for x in reads(plan(preset))]
    options = {"tap": Recorder([look])} if look else {}
    torch._dynamo.reset()
    torch.compile(model, backend=capture, fullgraph=True)(*inputs, **options)
    (code,) = codes
    return code


if __name__ == "__main__":
    print(json.dumps([graph(*job) for job in json.loads(sys.argv[1])]))
