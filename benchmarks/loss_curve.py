"""Same initial weights, same text, same optimizer: how far is our training from Hugging Face's in fp32?

The noise that bf16 may have is the largest distance of Hugging Face's own bf16 autocast from its fp32 curve;
ours must not be further away.
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

    def peer(precision: str) -> Plan:
        arguments = dict(precision=precision, compiled=False, **given)
        return session.peer(f"Hugging Face {precision}", "huggingface", "training_step", **arguments)

    exact, rounded = losses(session, peer("fp32"), STEPS), losses(session, peer("autocast"), STEPS)
    if not exact or not rounded:
        return []
    found = []
    for precision in ("fp32", "bf16"):
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
                peer_name="ours against Hugging Face bf16 autocast, both from its fp32",
                facts={"curve": curve, "fp32": exact, "autocast": rounded},
            )
            found.append(figure)
    return found


def losses(session: Session, plan: Plan, steps: int) -> list[float]:
    with session.running([plan], warm_up=0) as children:
        return children[plan.name].call(steps)["values"] if children else []


def distance(curve: list[float], yardstick: list[float]) -> float:
    return max(abs(one - other) for one, other in zip(curve, yardstick, strict=True))
