"""Seconds and peak memory of loading a real model (`--model`) beside transformers, in fresh processes.

A GGUF file is loaded as it is and, converted by us, as a folder of safetensors. `load` is the load alone,
`ready` everything from the first import to the end of a first short pass, `peak` the largest resident memory
until then, mapped files included. Files are in the page cache: the first round, which brings them there, does
not count.
"""

import subprocess
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure, spread
from benchmarks.process import OURS, PEERS, ROOT, Child, ChildError, Plan
from benchmarks.session import Session

MEASURED = {"load": ("load_seconds", "s"), "ready": ("ready_seconds", "s"), "peak": ("peak_bytes", "bytes")}
PARTS = ("import_seconds", "load_seconds", "pass_seconds", "loaded_bytes")


def run(session: Session) -> list[Figure]:
    if session.model is None:
        session.note("left out: name a GGUF file or a Hugging Face folder with --model")
        return []
    if not session.has_peers():
        return []
    if session.model.is_dir():
        return figures(session, "folder", session.model)
    found = figures(session, "gguf", session.model)
    if session.tiny:
        return found
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "model"
        command = [str(OURS), "-m", "cutaway", "convert", str(session.model), str(folder)]
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if ended.returncode:
            session.note(
                f"the folder is left out: convert ended with {ended.returncode}: {ended.stderr[-500:]}"
            )
            return found
        return found + figures(session, "folder", folder)


def figures(session: Session, name: str, path: Path) -> list[Figure]:
    """Ours beside theirs, for the model alone and with its tokenizer."""
    found = []
    for what in ("model", "session"):
        given = {"path": str(path)}
        plans = (
            Plan(f"cutaway, {what}", "loads", f"our_{what}", given, OURS),
            Plan(f"transformers, {what}", "loads", f"their_{what}", given, PEERS),
        )
        sides = measure(session, plans)
        if sides is not None:
            found += [beside(f"loading.{name}.{what}.{one}", one, plans, sides) for one in MEASURED]
    return found


def measure(session: Session, plans: tuple[Plan, Plan]) -> tuple[list[dict], list[dict]] | None:
    """What each side said in every round but the first; None, with a note, where a side cannot load."""
    sides: tuple[list[dict], list[dict]] = ([], [])
    for number in range(1 + session.rounds):
        for plan, said in zip(plans, sides, strict=True):
            try:
                with Child(plan, session.threads) as child:
                    (values,) = child.call(1)["values"]
            except ChildError as failure:
                session.note(f"left out: {failure}")
                return None
            assert plan.python == PEERS or not values["transformers"], "our loader imports transformers"
            if number:
                said.append(values)
    return sides


def beside(name: str, one: str, plans: tuple[Plan, Plan], sides: tuple[list[dict], list[dict]]) -> Figure:
    key, unit = MEASURED[one]
    ours, theirs = ([values[key] for values in said] for said in sides)
    facts = {}
    for side, said in zip(("ours", "peer"), sides, strict=True):
        facts[f"{side}_parts"] = {part: float(f"{median(v[part] for v in said):.4g}") for part in PARTS}
        facts[f"{side}_on"] = said[0]["on"]
    return Figure(
        name=name,
        ours=median(ours),
        peer=median(theirs),
        unit=unit,
        better="less",
        repeats=len(ours),
        peer_name=f"{plans[0].name} against {plans[1].name}",
        spread=max(spread(ours), spread(theirs)),
        facts=facts,
    )
