"""A training step of the GPT-2 124M shape: length 512, batch 4, AdamW, tokens a second.

Every mode is first surveyed alone; then our best mode takes turns with the best peer as a user installs it
and with nanoGPT's best under a preloaded tcmalloc, in one process tree, slice by slice.
"""

from dataclasses import asdict, replace
from itertools import product
from statistics import median

from benchmarks.figure import Figure, compare
from benchmarks.process import Plan, take_turns
from benchmarks.session import Session

SURVEY_STEPS = 4
WARM_UP_STEPS = 3  # the first compiles; memory that is touched for the first time slows the next two


def run(session: Session) -> list[Figure]:
    best: dict[str, Plan] = {}
    for side, plans in candidates(session).items():
        rates = {plan.name: survey(session, plan) for plan in plans}
        if any(rates.values()):
            best[side] = max(plans, key=lambda plan: rates[plan.name])
    if "ours" not in best or len(best) == 1:
        return []
    with session.running(best.values(), WARM_UP_STEPS) as children:
        take_turns(list(children.values()), session.rounds, count=2)
        tokens = session.shape.tokens
        return [
            compare(
                name=f"train_throughput.{side}",
                ours=children[best["ours"].name],
                peer=children[plan.name],
                unit="tokens/s",
                better="more",
                of_seconds=lambda seconds: tokens / seconds,
            )
            for side, plan in best.items()
            if side != "ours" and {plan.name, best["ours"].name} <= children.keys()
        ]


def candidates(session: Session) -> dict[str, list[Plan]]:
    """Plans by side: ours, installed (peers as they come), preloaded (nanoGPT with tcmalloc)."""
    sides: dict[str, list[Plan]] = {"ours": modes(session, "ours", ("fp32", "bf16")), "installed": []}
    if session.has_peers():
        sides["installed"] += modes(session, "huggingface", ("fp32", "autocast", "bf16"))
    if session.has_nanogpt():
        nanogpt = modes(session, "nanogpt", ("fp32", "autocast"))
        sides["installed"] += nanogpt
        preload = session.better_allocator()
        if preload:
            sides["preloaded"] = [
                replace(plan, name=f"{plan.name}, tcmalloc", environment=preload) for plan in nanogpt
            ]
    return sides


def modes(session: Session, module: str, precisions: tuple[str, ...]) -> list[Plan]:
    """Every precision of one side that the session measures (autocast is to bf16), eager and compiled."""
    plans = []
    able = [p for p in precisions if p.replace("autocast", "bf16") in session.precisions]
    for precision, compiled in product(able, (False, True)):
        name = f"{precision} {'compiled' if compiled else 'eager'}"
        given = dict(shape=asdict(session.shape), precision=precision, compiled=compiled)
        if module == "ours":
            plans.append(session.ours(name, "training_step", **given))
        else:
            plans.append(session.peer(f"{module}, {name}", module, "training_step", **given))
    return plans


def survey(session: Session, plan: Plan) -> float:
    """Tokens a second of one plan running alone; 0 where it cannot run."""
    with session.running([plan], WARM_UP_STEPS) as children:
        if not children:
            return 0.0
        take_turns(list(children.values()), rounds=1, count=SURVEY_STEPS)
        rate = session.shape.tokens / median(children[plan.name].seconds)
    session.note(f"alone: {plan.name}: {rate:.0f} tokens/s, median of {SURVEY_STEPS} steps")
    return rate
