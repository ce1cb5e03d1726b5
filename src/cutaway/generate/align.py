"""Which source token a target token was written from, read out of the attention over the source.

Bahdanau et al. (2014) drew these matrices first. A transformer has one for each head and layer; the mean over
the heads of the second last layer is the one that agrees best with people (Garg et al. 2019): the last layer
already prepares the next word instead of looking at the source of this one. So that is the default where
there are several layers.

B batch   H query head   L target position   M source position
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.errors import ConfigError, LimitError
from cutaway.generate.beam import BATCH_TOKENS, batched
from cutaway.generate.decode import pad_behind
from cutaway.models import sites
from cutaway.models.pair import Pair
from cutaway.tap import Recorder, edits_of

LOOKS = (".cross.pattern", ".look.pattern")


@dataclass(frozen=True)
class Alignment:
    """The weight (L, M) each target token gave each source token, special ones included: rows sum to 1.

    `links` are pairs of places (target, source), one for each target token that is text: the source token, of
    those that are text, with the largest weight.
    """

    weights_LM: Tensor
    links: tuple[tuple[int, int], ...]


def look_sites(model: Pair) -> list[str]:
    """The taps at which the decoder's attention over the source can be read, from the first layer on.

    Raises ConfigError where there is none: one vector is all such a decoder has of its source.
    """
    found = [name for name in sites(model.plan) if name.startswith("decoder.") and name.endswith(LOOKS)]
    if not found:
        raise ConfigError("this model has no attention over the source: there is nothing to align by")
    return found


def align(
    model: Pair,
    sources: Sequence[Sequence[int]],
    targets: Sequence[Sequence[int]],
    *,
    begin: int,
    special: frozenset[int] = frozenset(),
    layer: int | None = None,
    batch_tokens: int = BATCH_TOKENS,
) -> list[Alignment]:
    """One pass over each source and a target of it, the `layer` th look read (the second last by default).

    Raises ConfigError for a model without attention over the source, LimitError for a layer it has not.
    """
    looks = look_sites(model)
    place = max(0, len(looks) - 2) if layer is None else layer
    if not 0 <= place < len(looks):
        raise LimitError(f"layer {layer}: the decoder looks at the source in layers 0 to {len(looks) - 1}")
    sizes = [max(len(source), len(target)) for source, target in zip(sources, targets, strict=True)]
    found: list[Alignment | None] = [None] * len(sizes)
    for batch in batched(sizes, batch_tokens, len(sizes)):
        read = patterns(model, [sources[i] for i in batch], [targets[i] for i in batch], begin, looks[place])
        for i, weights_LM in zip(batch, read, strict=True):
            found[i] = Alignment(weights_LM, linked(weights_LM, sources[i], targets[i], special))
    return [each for each in found if each is not None]


@torch.inference_mode()
def patterns(
    model: Pair, sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], begin: int, site: str
) -> list[Tensor]:
    """The mean over heads of one look, (L, M) for each pair of source and target."""
    device = model.vocab_matrix.device
    source_BM, real_BM = pad_behind(sources, device)
    read_BL, real_BL = pad_behind([[begin, *target[:-1]] for target in targets], device)
    recorder = Recorder({site}, edits_of(model))
    model.features(source_BM, read_BL, source_padding_BM=real_BM, target_padding_BL=real_BL, tap=recorder)
    mean_BLM = recorder.seen[site].float().mean(1).cpu()
    return [
        weights[: len(target), : len(source)].clone()
        for weights, source, target in zip(mean_BLM, sources, targets, strict=True)
    ]


def linked(
    weights_LM: Tensor, source: Sequence[int], target: Sequence[int], special: frozenset[int]
) -> tuple[tuple[int, int], ...]:
    """For each target token that is text the place of its source token."""
    columns = [place for place, token in enumerate(source) if token not in special]
    rows = [place for place, token in enumerate(target) if token not in special]
    if not columns:
        return ()
    best = weights_LM[:, columns].argmax(1).tolist()
    return tuple((row, columns[best[row]]) for row in rows)
