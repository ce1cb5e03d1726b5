"""Beam search, 5 prefixes, fp32, batches of 32 sentences, on a Marian-shaped model with the same weights.

Sentences a second of the whole call, the encoder included. Hugging Face's `generate` must write the same; its
`early_stopping` is on, the rule of fairseq, which is ours. CTranslate2, C++ with kernels of its own, is the
aim; it may end a search elsewhere, so how many of its sentences are ours is a fact of its figure.
"""

import tempfile
from dataclasses import asdict, replace
from pathlib import Path

from benchmarks.figure import Figure, compare
from benchmarks.process import Child, take_turns
from benchmarks.sentences import MARIAN, TINY
from benchmarks.session import Session


def run(session: Session) -> list[Figure]:
    if not session.has_peers():
        return []
    with tempfile.TemporaryDirectory() as folder:
        return figures(session, str(Path(folder) / "marian.safetensors"))


def figures(session: Session, weights: str) -> list[Figure]:
    shape = TINY if session.tiny else MARIAN
    given = dict(shape=asdict(shape), weights=weights)
    write = session.peer("initial weights", "marian", "initial_weights", shape=asdict(shape), path=weights)
    with session.running([write], warm_up=1) as children:
        if not children:
            return []
    plans = [
        session.ours("beam 5", "translating", **given),
        session.peer("Hugging Face, beam 5", "marian", "translating", **given),
        session.peer("CTranslate2 float32, beam 5", "marian", "converted", threads=session.threads, **given),
    ]
    found = []
    with session.running(plans, warm_up=2) as running:
        take_turns(list(running.values()), session.rounds, count=1)
        ours, *peers = (running.get(plan.name) for plan in plans)
        for name, peer in zip(("huggingface", "ctranslate2"), peers, strict=True):
            if ours is None or peer is None:
                continue
            same = agreement(ours, peer)
            assert name != "huggingface" or same == 1.0, f"{same:.1%} of the sentences are Hugging Face's"
            figure = compare(
                f"translate.{name}", ours, peer, "sentences/s", "more", lambda s: shape.sentences / s
            )
            found.append(replace(figure, facts=figure.facts | {"same": same}))
    return found


def agreement(ours: Child, peer: Child) -> float:
    """The share of sentences for which both wrote the same tokens."""
    pairs = list(zip(ours.values[-1], peer.values[-1], strict=True))
    return sum(one == other for one, other in pairs) / len(pairs)
