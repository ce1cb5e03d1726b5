"""What the report shows of a model at one text, read at the model's taps: predictions, patterns, lens, effects.

B batch   L position   M memory position   D width   H query head   V vocabulary   N layer   E option
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from cutaway import spec
from cutaway.models import AnyModel, Paired
from cutaway.nn import heads
from cutaway.study.packing import PackedPatterns, pack_patterns
from cutaway.tap import Copy, Edit, Recorder, Scale

OPTIONS = 5


@dataclass(frozen=True)
class Prediction:
    """After each position: the likeliest tokens (L, E) with their probabilities, and of the token that really came
    next (L - 1) its probability, its loss in nats, and its rank (1 the likeliest). Without a next token, None.
    """

    options_LE: np.ndarray
    probability_LE: np.ndarray
    losses: np.ndarray | None = None
    ranks: np.ndarray | None = None


@dataclass(frozen=True)
class Attention:
    """One kind of attention: its title, the tap of its pattern with {} for the layer, who asks, who is looked at."""

    title: str
    tap: str
    queries: str
    memory: str
    heads: tuple[int, ...]
    packed: PackedPatterns


@dataclass(frozen=True)
class Effect:
    """What changed when one part was off: `kind` is head, attention, feed-forward or layer."""

    tap: str
    kind: str
    stack: str
    layer: int
    head: int | None
    losses: np.ndarray
    options: np.ndarray
    probabilities: np.ndarray


@dataclass(frozen=True)
class Specimen:
    """A model with one text in front of it: `ids` goes through its (last) stack, `source` through an encoder."""

    model: AnyModel
    ids: np.ndarray
    source: np.ndarray | None = None

    @property
    def plan(self) -> spec.Model:
        return self.model.plan

    @property
    def prefix(self) -> str:
        """What stands in front of the names of the stack that writes the logits."""
        return "decoder." if self.source is not None else ""

    @property
    def predicts(self) -> bool:
        """Whether position l is asked for token l + 1: not in a model that has seen it."""
        stack = self.plan.decoder if isinstance(self.plan, spec.Paired) else self.plan.stack
        return stack.sees == "past" and isinstance(self.plan.head, spec.NextToken)

    @property
    def stacks(self) -> dict[str, spec.Stack]:
        """Prefix of the names -> stack."""
        if isinstance(self.plan, spec.Paired):
            return {"encoder.": self.plan.encoder, "decoder.": self.plan.decoder}
        return {"": self.plan.stack}

    def run(self, keep: tuple[str, ...] = (), changes: Mapping[str, Edit] | None = None) -> tuple[Tensor, dict]:
        """Logits (L, V) in float32 and what was seen at the taps `keep`."""
        device = next(self.model.parameters()).device
        inputs = [
            torch.as_tensor(ids, device=device)[None] for ids in (self.source, self.ids) if ids is not None
        ]
        tap, training = Recorder(keep, changes), self.model.training
        self.model.eval()
        try:
            with torch.no_grad():
                return self.model(*inputs, tap=tap)[0].float(), tap.seen
        finally:
            self.model.train(training)

    def predict(self, logits_LV: Tensor) -> Prediction:
        """The likeliest tokens after each position, and how the one that came did."""
        logs_LV = logits_LV.log_softmax(-1)
        found_LE = logs_LV.topk(min(OPTIONS, logs_LV.size(-1)), dim=-1)
        options = found_LE.indices.cpu().numpy(), found_LE.values.exp().cpu().numpy()
        if not self.predicts:
            return Prediction(*options)
        came = torch.as_tensor(self.ids[1:], device=logs_LV.device)[:, None]
        own = logs_LV[:-1].gather(-1, came)
        ranks = 1 + (logs_LV[:-1] > own).sum(-1)
        return Prediction(*options, -own[:, 0].cpu().numpy(), ranks.cpu().numpy())


def attentions(specimen: Specimen) -> list[Attention]:
    """Every head's pattern, of every attention the model has."""
    kinds = []
    for prefix, stack in specimen.stacks.items():
        titles = {"encoder.": "Encoder self-attention", "decoder.": "Decoder self-attention"}
        own = "source" if prefix == "encoder." else "text"
        kinds.append((titles.get(prefix, "Self-attention"), prefix, "attn", stack, own, own))
        if any(block.cross for block in stack.blocks):
            kinds.append(("Cross-attention", prefix, "cross", stack, "text", "source"))
    found = []
    for title, prefix, name, stack, queries, memory in kinds:
        parts = [stack.blocks[depth % len(stack.blocks)] for depth in range(stack.layers)]
        depths = [
            depth
            for depth, block in enumerate(parts)
            if isinstance(block.mixer if name == "attn" else block.cross, spec.Attention)
        ]
        if len(depths) < stack.layers:
            continue
        names = [f"{prefix}blocks.{depth}.{name}.pattern" for depth in depths]
        _, seen = specimen.run(tuple(names))
        patterns = [seen[tap][0].float().cpu().numpy() for tap in names]
        packed = pack_patterns(patterns, causal=name == "attn" and stack.sees == "past")
        counts = tuple(pattern_HLM.shape[0] for pattern_HLM in patterns)
        found.append(
            Attention(title, f"{prefix}blocks.{{}}.{name}.pattern", queries, memory, counts, packed)
        )
    return found


def lens(specimen: Specimen) -> list[tuple[str, Prediction]]:
    """The logit lens (nostalgebraist 2020): what the head would say if the model ended at each layer.

    The rows are the input of the first block, then the output of each: the last is the model's own prediction.
    """
    model, prefix = specimen.model, specimen.prefix
    stack = model.decoder if isinstance(model, Paired) else model
    embedding = model.written if isinstance(model, Paired) else model.input
    if not isinstance(model.head, heads.NextToken):
        return []
    names = [f"{prefix}blocks.0.in", *(f"{prefix}blocks.{depth}.out" for depth in range(stack.layers))]
    _, seen = specimen.run(tuple(names))
    rows = []
    for name in names:
        with torch.no_grad():
            x_BLD = seen[name] if stack.final_norm is None else stack.final_norm(seen[name])
            logits_BLV = model.head(x_BLD, embedding.token.weight)
        rows.append((name, specimen.predict(logits_BLV[0].float())))
    return rows


def edits(specimen: Specimen) -> Iterator[tuple[str, str, str, int, int | None, Edit]]:
    """Everything the report switches off: (tap, kind, stack, layer, head, edit)."""
    nothing = torch.zeros(())
    for prefix, stack in specimen.stacks.items():
        for layer in range(stack.layers):
            block, at = stack.blocks[layer % len(stack.blocks)], f"{prefix}blocks.{layer}."
            for name, mixer in (("attn", block.mixer), ("cross", block.cross)):
                if not isinstance(mixer, spec.Attention):
                    continue
                for head in range(mixer.heads):
                    keep = torch.ones(mixer.heads, 1, 1)
                    keep[head] = 0
                    yield f"{at}{name}.mix", name, prefix, layer, head, Scale(keep)
                yield f"{at}{name}.out", name, prefix, layer, None, Scale(nothing)
            if block.ffn is not None:
                yield f"{at}ffn.out", "ffn", prefix, layer, None, Scale(nothing)
            yield f"{at}out", "layer", prefix, layer, None, Copy("in")


def effects(specimen: Specimen) -> list[Effect]:
    """Loss of every token and the next token's likeliest, with one part at a time switched off (set to zero)."""
    found = []
    for tap, kind, stack, layer, head, edit in edits(specimen):
        logits_LV, _ = specimen.run(changes={tap: edit})
        logits_LV = logits_LV.to("cpu")
        guess = specimen.predict(logits_LV)
        assert guess.losses is not None
        found.append(
            Effect(tap, kind, stack, layer, head, guess.losses, guess.options_LE[-1], guess.probability_LE[-1])
        )
    return found
