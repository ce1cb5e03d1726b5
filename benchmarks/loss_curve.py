"""Same initial weights, same text, same optimizer: how far is our training from Hugging Face's in fp32?

The noise that bf16 may have is how far Hugging Face's own bf16 gets from its fp32, by autocast and with bf16
weights. Where the processor has no bf16, its fp32 compiled is held against its eager. Both the median and
the largest distance are told: where a step goes wrong and the next one mends it, as one does here (the loss
of the 18th is 14), every difference grows a hundredfold for that step.
"""

import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path
from statistics import median

from benchmarks.figure import Figure
from benchmarks.process import Plan
from benchmarks.session import Session

STEPS = 20
STATISTICS = {"median": median, "largest": max}


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

    exact = losses(session, peer("fp32"), STEPS)
    if "bf16" in session.precisions:
        noisy = {"bf16 autocast": peer("autocast"), "bf16 weights": peer("bf16")}
    else:
        noisy = {"fp32 compiled": peer("fp32", compiled=True)}
    rounded = {name: losses(session, plan, STEPS) for name, plan in noisy.items()}
    if not exact or not all(rounded.values()):
        return []
    found = []
    for precision in session.precisions:
        plan = session.ours(precision, "training_step", precision=precision, compiled=True, **given)
        curve = losses(session, plan, STEPS)
        if not curve:
            continue
        for (name, noise), (said, statistic) in product(rounded.items(), STATISTICS.items()):
            figure = Figure(
                name=f"loss_curve.{precision}.{said}_beside_{name.replace(' ', '_')}",
                ours=statistic(distances(curve, exact)),
                peer=statistic(distances(noise, exact)),
                unit=f"nats, {said} distance",
                better="less",
                repeats=len(curve),
                peer_name=f"ours against Hugging Face {name}, both from its fp32",
                facts={"curve": curve, "fp32": exact, name: noise},
            )
            found.append(figure)
    return found


def losses(session: Session, plan: Plan, steps: int) -> list[float]:
    with session.running([plan], warm_up=0) as children:
        return children[plan.name].call(steps)["values"] if children else []


def distances(curve: list[float], yardstick: list[float]) -> list[float]:
    return [abs(one - other) for one, other in zip(curve, yardstick, strict=True)]
