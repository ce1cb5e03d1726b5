"""Same initial weights, same text, same optimizer: how far is our training from Hugging Face's in fp32?

The noise that bf16 may have is the largest distance of Hugging Face's own bf16 autocast from its fp32 curve;
ours must not be further away. Where the processor has no bf16, its fp32 compiled is held against its eager.
"""

import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.figure import Figure
from benchmarks.process import Plan
from benchmarks.session import Session

STEPS = 20


def run(session: Session) -> list[Figure]:
    if not session.has_peers():
        return []
    with tempfile.TemporaryDirectory() as folder:
        return figures(session, str(Path(folder) / "initial.safetensors"))


def figures(session: Session, weights: str) -> list[Figure]:
    shape = asdict(session.shape)
    write = session.peer("initial weights", "huggingface", "initial_weights", shape=shape, path=weights)
    if not losses(session, write, 1):
        return []
    given = dict(shape=shape, weights=weights)

    def peer(precision: str, compiled: bool = False) -> Plan:
        arguments = dict(precision=precision, compiled=compiled, **given)
        return session.peer(f"Hugging Face {precision}", "huggingface", "training_step", **arguments)

    halved = "bf16" in session.precisions
    noisy = "bf16 autocast" if halved else "fp32 compiled"
    exact = losses(session, peer("fp32"), STEPS)
    rounded = losses(session, peer("autocast") if halved else peer("fp32", compiled=True), STEPS)
    if not exact or not rounded:
        return []
    found = []
    for precision in session.precisions:
        plan = session.ours(precision, "training_step", precision=precision, compiled=True, **given)
        curve = losses(session, plan, STEPS)
        if curve:
            figure = Figure(
                name=f"loss_curve.{precision}",
                ours=distance(curve, exact),
                peer=distance(rounded, exact),
                unit="nats, largest distance",
                better="less",
                repeats=len(curve),
                peer_name=f"ours against Hugging Face {noisy}, both from its fp32",
                facts={"curve": curve, "fp32": exact, noisy: rounded},
            )
            found.append(figure)
    return found


def losses(session: Session, plan: Plan, steps: int) -> list[float]:
    with session.running([plan], warm_up=0) as children:
        return children[plan.name].call(steps)["values"] if children else []


def distance(curve: list[float], yardstick: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(curve, yardstick, strict=True))
