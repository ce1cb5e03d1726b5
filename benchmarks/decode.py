"""Greedy decoding of the GPT-2 124M shape with random weights: prompt 64, 128 new tokens, batch 1 and 8.

With `--model` it is a real model that decodes, in `benchmarks.real`.

Tokens a second of the whole call, prefill included. Hugging Face runs its default cache and its static,
compiled one; the better of the two is the peer. nanoGPT keeps no cache.
"""

from dataclasses import asdict, replace
from itertools import product
from statistics import median

from benchmarks import real
from benchmarks.figure import Figure, compare
from benchmarks.process import Child, Plan, take_turns
from benchmarks.session import Session

PROMPT, NEW, NEW_TINY = 64, 128, 16


def run(session: Session) -> list[Figure]:
    if session.model is not None:
        return real.run(session, session.model)
    peers, nanogpt = session.has_peers(), session.has_nanogpt()
    found: list[Figure] = []
    for precision, batch in product(session.precisions, (1, 8)):
        new = NEW_TINY if session.tiny else NEW
        with session.running(plans(session, precision, batch, new, peers, nanogpt), warm_up=2) as children:
            take_turns(list(children.values()), session.rounds, count=1)
            found += figures(list(children.values()), f"decode.{precision}.batch_{batch}", batch * new)
    return found


def plans(session: Session, precision: str, batch: int, new: int, peers: bool, nanogpt: bool) -> list[Plan]:
    given = dict(shape=asdict(replace(session.shape, batch=batch)), prompt=PROMPT, new=new)
    found = [session.ours(precision, "decoding", precision=precision, **given)]
    for cache in ("dynamic", "static") if peers else ():
        arguments = dict(precision=precision, cache=cache, **given)
        name = f"Hugging Face {precision}, {cache} cache"
        found.append(session.peer(name, "huggingface", "decoding", **arguments))
    if nanogpt:
        mode = "autocast" if precision == "bf16" else precision
        found.append(session.peer(f"nanoGPT {mode}", "nanogpt", "decoding", precision=mode, **given))
    return found


def figures(children: list[Child], name: str, tokens: int) -> list[Figure]:
    """Ours against the best mode of each peer."""
    sides: dict[str, list[Child]] = {}
    for child in children:
        sides.setdefault(child.plan.module, []).append(child)
    best = {module: min(same, key=lambda child: median(child.seconds)) for module, same in sides.items()}
    ours = best.pop("ours", None)
    return [
        compare(
            f"{name}.{module.removeprefix('peers.')}", ours, peer, "tokens/s", "more", lambda s: tokens / s
        )
        for module, peer in best.items()
        if ours is not None
    ]
