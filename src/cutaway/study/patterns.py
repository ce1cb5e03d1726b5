"""Every head's attention at one text, packed for the report.

B batch   L position   M memory position   H query head
"""

from collections.abc import Iterator
from dataclasses import dataclass

from cutaway import spec
from cutaway.models import sites
from cutaway.study.names import block_at
from cutaway.study.packing import MOST_PATTERN_CHARACTERS, PackedPatterns, pack_patterns
from cutaway.study.specimen import Specimen
from cutaway.study.trace import trace


@dataclass(frozen=True)
class Attention:
    """One kind of attention: the tap of its pattern with {} for the depth, which stream asks and which is
    looked at, and by depth how many heads there are (0 where a block has none of this kind).
    """

    title: str
    tap: str
    queries: str
    memory: str
    heads: tuple[int, ...]
    packed: PackedPatterns


def attentions(specimen: Specimen) -> Iterator[Attention]:
    """Every head's pattern, of every kind of attention the model has."""
    titles = {"encoder.": "Encoder self-attention", "decoder.": "Decoder self-attention"}
    for side in specimen.stacks:
        own = "source" if side == "encoder." else "text"
        yield from attention(specimen, titles.get(side, "Self-attention"), side, "attn", own, own)
        yield from attention(specimen, "Cross-attention", side, "cross", "text", "source")
    yield from looks(specimen)


def looks(specimen: Specimen) -> Iterator[Attention]:
    """What a writer without blocks looks at: one head, in each of its layers or for all of them."""
    taps = [name for name in sites(specimen.model.plan) if name.endswith("look.pattern")]
    if taps:
        seen = trace(specimen.model, specimen.inputs, keep=taps)
        patterns = [seen[tap][0].float().cpu().numpy() for tap in taps]
        packed = pack_patterns(patterns, MOST_PATTERN_CHARACTERS, False)
        name = taps[0].replace(".0.", ".{}.")
        yield Attention("Attention to the source", name, "text", "source", (1,) * len(taps), packed)


def attention(
    specimen: Specimen, title: str, side: str, name: str, queries: str, memory: str
) -> Iterator[Attention]:
    """The one kind of attention that goes by this name in this stack, if there is any."""
    stack = specimen.stacks[side]
    blocks = [block_at(stack, depth) for depth in range(stack.layers)]
    mixers = [block.mixer if name == "attn" else block.cross for block in blocks]
    heads = tuple(mixer.heads if isinstance(mixer, spec.Attention) else 0 for mixer in mixers)
    taps = [f"{side}blocks.{depth}.{name}.pattern" for depth, count in enumerate(heads) if count]
    if taps:
        seen = trace(specimen.model, specimen.inputs, keep=taps)
        patterns = [seen[tap][0].float().cpu().numpy() for tap in taps]
        kinds = 1 if specimen.source is None else 3
        causal = name == "attn" and stack.sees == "past"
        packed = pack_patterns(patterns, MOST_PATTERN_CHARACTERS // kinds, causal)
        yield Attention(title, f"{side}blocks.{{}}.{name}.pattern", queries, memory, heads, packed)
