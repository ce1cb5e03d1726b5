"""What recording costs: the GPT-2 124M shape on 1 x 512 tokens, fp32 and bf16.

Ours plain, recording every site, and all but scores and pattern; Hugging Face plain; TransformerLens in the
same three ways. The figures called `over_plain` compare each side with its own plain pass of the same run.
"""

from dataclasses import asdict, replace
from statistics import median

from benchmarks.figure import Figure, compare, spread
from benchmarks.process import Child, Plan, take_turns
from benchmarks.session import Session

NOTHING, LIGHT, EVERY = "nothing", "all but scores and pattern", "every site"


def run(session: Session) -> list[Figure]:
    peers = session.has_peers()
    found: list[Figure] = []
    for precision in session.precisions:
        with session.running(plans(session, precision, peers), warm_up=3) as children:
            take_turns(list(children.values()), 3 * session.rounds, count=3)
            found += figures(f"trace_overhead.{precision}", children)
            for name, child in children.items():
                session.note(f"{name}, {precision}: {child.values[0]} tensors recorded")
    return found


def plans(session: Session, precision: str, peers: bool) -> list[Plan]:
    given = dict(shape=asdict(replace(session.shape, batch=1)), precision=precision)
    found = [
        session.ours(record, "forward_pass", record=record, **given) for record in (NOTHING, LIGHT, EVERY)
    ]
    if peers:
        found.append(session.peer("Hugging Face", "huggingface", "forward_pass", **given))
        for record in (NOTHING, LIGHT, EVERY):
            found.append(
                session.peer(f"TransformerLens, {record}", "lens", "forward_pass", record=record, **given)
            )
    return found


def figures(name: str, children: dict[str, Child]) -> list[Figure]:
    ours, lens = (
        {record: children.get(f"{side}, {record}") for record in (NOTHING, LIGHT, EVERY)}
        for side in ("cutaway", "TransformerLens")
    )
    hugging = children.get("Hugging Face")
    found = [
        milliseconds(f"{name}.plain", ours[NOTHING], hugging),
        milliseconds(f"{name}.plain_lens", ours[NOTHING], lens[NOTHING]),
        milliseconds(f"{name}.every_site", ours[EVERY], lens[EVERY]),
        over_plain(f"{name}.every_site_over_plain", ours, lens, EVERY),
        over_plain(f"{name}.light_over_plain", ours, lens, LIGHT),
    ]
    return [figure for figure in found if figure is not None]


def milliseconds(name: str, ours: Child | None, peer: Child | None) -> Figure | None:
    if ours is None or peer is None:
        return None
    return compare(name, ours, peer, "ms", "less", lambda seconds: 1e3 * seconds)


def over_plain(
    name: str, ours: dict[str, Child | None], lens: dict[str, Child | None], record: str
) -> Figure | None:
    """Medians of the ratios of neighbouring slices."""
    mine, mine_plain, theirs, theirs_plain = ours[record], ours[NOTHING], lens[record], lens[NOTHING]
    if mine is None or mine_plain is None or theirs is None or theirs_plain is None:
        return None
    sides = [
        [slow / fast for slow, fast in zip(recorded.seconds, plain.seconds, strict=True)]
        for recorded, plain in ((mine, mine_plain), (theirs, theirs_plain))
    ]
    return Figure(
        name=name,
        ours=median(sides[0]),
        peer=median(sides[1]),
        unit="x plain",
        better="less",
        repeats=len(sides[0]),
        peer_name=f"both sides recording {record}",
        spread=max(spread(side) for side in sides),
        facts={"ours_on": mine.surroundings, "peer_on": theirs.surroundings},
    )
