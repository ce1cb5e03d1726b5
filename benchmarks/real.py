"""Greedy decoding and prefill of a real model out of a GGUF file (`--model`), batch 1, one text for all.

Tokens a second of the whole call: for decode the new ones (prompt 64, 128 new), reading the prompt included;
for prefill those of a prompt of 512, three calls a turn behind one that does not count. Ours and Hugging Face
hold the weights in the named precision, and of Hugging Face's modes the best is the peer; llama.cpp keeps the
file's own (4 bits in SmolLM2's), with and without its flash attention. `same` counts the leading tokens on
which both sides agree.
"""

from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median

from benchmarks.figure import Figure, compare
from benchmarks.process import OURS, Child, Plan, take_turns
from benchmarks.session import Session
from cutaway.weights.gguf.header import MAGIC
from cutaway.weights.single_file import beginning, read_words, recognise

PROMPT, NEW, PREFILL = 64, 128, 512
TINY = (8, 8, 32)
HUGGING_FACE = {
    "decode": ("dynamic cache", "dynamic cache, compiled", "static cache"),
    "prefill": ("eager", "compiled"),
}
JOBS = {"decode": "decoding", "prefill": "reading"}


def run(session: Session, path: Path) -> list[Figure]:
    if path.is_dir() or beginning(path)[:4] != MAGIC:
        session.note(f"left out: {path} is no GGUF file, which llama.cpp needs")
        return []
    peers = session.has_peers()
    prompt, new, prefill = TINY if session.tiny else (PROMPT, NEW, PREFILL)
    ids = some_text(path, max(prompt, prefill))
    found: list[Figure] = []
    for precision in session.precisions:
        for task, given, tokens in (
            ("decode", {"prompt": ids[:prompt], "new": new}, new),
            ("prefill", {"prompt": ids[:prefill]}, prefill),
        ):
            asked = plans(session, task, precision, {"path": str(path), **given}, peers)
            with session.running(asked, warm_up=1 if session.tiny else 2) as children:
                turn = {"count": 3, "uncounted": 1} if task == "prefill" else {"count": 1}
                take_turns(list(children.values()), session.rounds, **turn)
                found += figures(session, list(children.values()), f"{task}.gguf.{precision}", tokens)
    return found


def some_text(path: Path, count: int) -> list[int]:
    """The first `count` tokens of the standard library's prose."""
    tokenizer, _ = read_words(recognise(path))
    text = " ".join(" ".join(topics.values()).split()[: 4 * count])
    return tokenizer.encode(text).tolist()[:count]


def plans(session: Session, task: str, precision: str, given: dict, peers: bool) -> list[Plan]:
    job = JOBS[task]
    found = [Plan(f"cutaway, {precision}", "loaded", job, {"precision": precision, **given}, OURS)]
    if not peers:
        return found
    for mode in HUGGING_FACE[task][:1] if session.tiny else HUGGING_FACE[task]:
        arguments = {"precision": precision, "mode": mode, **given}
        found.append(session.peer(f"Hugging Face {precision}, {mode}", "loaded", job, **arguments))
    for flash in (False, True):
        name = f"llama.cpp {Path(given['path']).stem}{', flash attention' if flash else ''}"
        found.append(session.peer(name, "llama", job, threads=session.threads, flash=flash, **given))
    return found


def figures(session: Session, children: list[Child], name: str, tokens: int) -> list[Figure]:
    """Ours against the best mode of each peer."""
    sides: dict[str, list[Child]] = {}
    for child in children:
        sides.setdefault(child.plan.module, []).append(child)
    best = {module: min(same, key=lambda child: median(child.seconds)) for module, same in sides.items()}
    ours = best.pop("loaded", None)
    found = []
    for module, label in (("peers.loaded", "huggingface"), ("peers.llama", "llama_cpp")):
        peer = best.get(module)
        if ours is None or peer is None:
            continue
        built = f"llama.cpp is built with {peer.surroundings.get('llama.cpp')}"
        if label == "llama_cpp" and built not in session.notes:
            session.note(built)
        figure = compare(f"{name}.{label}", ours, peer, "tokens/s", "more", lambda s: tokens / s)
        both = zip(ours.values[-1], peer.values[-1], strict=True)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
        modes = {child.plan.name: float(f"{tokens / median(child.seconds):.5g}") for child in sides[module]}
        found.append(replace(figure, facts=figure.facts | {"same": same, "modes": modes}))
    return found
