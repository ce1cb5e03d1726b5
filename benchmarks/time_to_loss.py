"""Training seconds to a validation loss on tinyshakespeare: nanoGPT's CPU recipe beside `shakespeare-small`.

`training_seconds` counts training steps only, ours with its compilation: no evaluation. `whole_seconds` is
all but the import: data, evaluations, checkpoints, the last judgement. Both losses are of the whole
validation text (nanoGPT's last tenth) in windows of 64 that do not overlap, every character but the first
scored once. Seeds take turns: peer, ours, peer, ours.
"""

from statistics import mean, median

from benchmarks.figure import Figure, spread
from benchmarks.process import Plan
from benchmarks.session import Session

WINDOW = 64
LIMIT = 1.88  # nats a character, what nanoGPT publishes for this recipe


def run(session: Session) -> list[Figure]:
    text = session.tinyshakespeare()
    if text is None:
        return []
    peers = session.has_nanogpt()
    steps = 20 if session.tiny else 2000
    results: dict[str, list[dict]] = {"ours": [], "peer": []}
    for seed in session.seeds:
        given = dict(text=str(text), seed=seed, window=WINDOW)
        if peers:
            plan = session.peer(f"nanoGPT seed {seed}", "nanogpt_recipe", "shakespeare", **given, steps=steps)
            results["peer"] += once(session, plan)
        results["ours"] += once(
            session, session.ours(f"shakespeare-small seed {seed}", "shakespeare", **given)
        )
    if len(results["ours"]) == len(results["peer"]) == len(session.seeds):
        return compare(results["ours"], results["peer"], session)
    return []


def once(session: Session, plan: Plan) -> list[dict]:
    """The one result of a child that trains once, or nothing where it could not."""
    with session.running([plan], warm_up=0) as children:
        if not children:
            return []
        child = children[plan.name]
        answer = child.call(1)
    whole, result = answer["seconds"][0], answer["values"][0]
    session.note(
        f"{plan.name}: loss {result['validation_loss']:.4f}, {result['tokens']:,} tokens,"
        f" {result['training_seconds']:.1f} s of training ({whole:.1f} s with data and evaluation)"
    )
    return [result | {"on": child.surroundings, "whole_seconds": whole}]


def compare(ours: list[dict], peer: list[dict], session: Session) -> list[Figure]:
    worst = max(result["validation_loss"] for result in ours)
    session.note(f"our largest loss {worst:.4f}: {'within' if worst <= LIMIT else 'ABOVE'} {LIMIT}")
    facts = {"seeds": list(session.seeds), "ours_on": ours[0]["on"], "peer_on": peer[0]["on"]}
    figures = []
    for name, unit, middle in (
        ("training_seconds", "s", median),
        ("whole_seconds", "s", median),
        ("validation_loss", "nats/character", mean),
    ):
        sides = [[result[name] for result in side] for side in (ours, peer)]
        figure = Figure(
            name=f"time_to_loss.{name}",
            ours=middle(sides[0]),
            peer=middle(sides[1]),
            unit=unit,
            better="less",
            repeats=len(ours),
            peer_name="recipe shakespeare-small against nanoGPT's CPU recipe",
            spread=max(spread(side) for side in sides),
            facts=facts,
        )
        figures.append(figure)
    return figures
