"""What the report is about: a model, what it reads, and where it comes from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from cutaway import spec
from cutaway.data.begin import begin_token, source_ids, target_tokenizer
from cutaway.data.tokenizer import Tokenizer
from cutaway.errors import ConfigError, LimitError
from cutaway.generate.translate import BEAM, Translator
from cutaway.models import AnyModel, build
from cutaway.models.sites import Listener
from cutaway.study.subject import text_ids

MOST_TOKENS = 512


class Session(Protocol):
    """What the report needs of a session."""

    @property
    def model(self) -> AnyModel: ...
    @property
    def tokenizer(self) -> Tokenizer: ...
    @property
    def length(self) -> int | None: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def step(self) -> int | None: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Specimen:
    """A model and what it reads: `ids` goes through the (last) stack, `source` through an encoder."""

    model: AnyModel
    ids: np.ndarray
    source: np.ndarray | None = None

    @property
    def inputs(self) -> list[int] | tuple[list[int], list[int]]:
        """What `trace`, `lens` and `switch_off` read."""
        return self.ids.tolist() if self.source is None else (self.source.tolist(), self.ids.tolist())

    @property
    def stacks(self) -> dict[str, spec.Stack]:
        """Prefix of the names -> stack; none of a model that is no transformer."""
        plan = self.model.plan
        if isinstance(plan, spec.Paired):
            return {"encoder.": plan.encoder, "decoder.": plan.decoder}
        return {"": plan.stack} if isinstance(plan, spec.Single) else {}

    @property
    def layers(self) -> list[int]:
        """How many layers each side has."""
        plan = self.model.plan
        match plan:
            case spec.Seq2Seq():
                return [getattr(side, "layers", 0) for side in (plan.encoder, plan.decoder)]
            case spec.Recurrence():
                return [plan.layers]
        return [stack.layers for stack in self.stacks.values()]

    @property
    def speaks(self) -> bool:
        """Whether the head scores a vocabulary."""
        return isinstance(self.model.plan.head, spec.NextToken)

    @property
    def predicts(self) -> bool:
        """Whether position l is asked for token l + 1: not in a model that has seen it."""
        return self.speaks and all(stack.sees == "past" for stack in list(self.stacks.values())[-1:])


def read(session: Session, text: str | tuple[str, str]) -> tuple[Specimen, list[str]]:
    """What the model will read, and what the reader of the page must be told about it.

    A model that sees a text as a whole reads it in its tokenizer's template, as `embed` and `fill` do.
    """
    plan, notices = session.model.plan, []
    pair = isinstance(plan, spec.Paired | spec.Seq2Seq)
    reads = plan.source if pair else plan.input
    if not isinstance(reads, spec.Tokens):
        raise ConfigError("the report shows models that read tokens; this one reads something else")
    if not pair and not isinstance(text, str):
        raise ConfigError("only an encoder-decoder reads a pair (source, target), any other model one text")
    most = min(MOST_TOKENS, session.length or MOST_TOKENS)
    if isinstance(reads.position, spec.Learned):
        most = min(most, reads.position.length)

    def cut(side: str, words: str, room: int) -> np.ndarray:
        known = session.tokenizer if side != "target" else target_tokenizer(session.tokenizer)
        ids = source_ids(known, words) if side == "source" else text_ids(plan, known, words)
        if len(ids) <= room:
            return ids
        notices.append(f"Shown are the first {room:,} of the {side}'s {len(ids):,} tokens.")
        return ids[:room] if side == "source" else text_ids(plan, known, words, room)

    if not pair:
        assert isinstance(text, str)
        specimen = Specimen(session.model, cut("text", text, most))
    else:
        begin = begin_token(session.tokenizer)
        source, target = (text, None) if isinstance(text, str) else text
        read_ids = cut("source", source, most)
        if target is None:
            ids = own_target(session, read_ids.tolist())[: most - 1]
            notices.append(f"The target is what the model itself writes for the source, by a beam of {BEAM}.")
        else:
            ids = cut("target", target, most - 1)
        specimen = Specimen(session.model, np.concatenate([[begin], ids]).astype(np.int64), read_ids)
    if len(specimen.ids) < 2 or (specimen.source is not None and not len(specimen.source)):
        raise LimitError("the report needs a text of two or more tokens (of each, in a pair, at least one)")
    return specimen, notices


def own_target(session: Session, source: list[int]) -> list[int]:
    """What the model writes for a source, without the end; LimitError where that is nothing."""
    written = Translator(session.model, session.tokenizer).translate([source])[0]
    ids = list(written.tokens[: len(written.tokens) - written.ended])
    if source and not ids:
        raise LimitError("the model writes nothing for this source: give the target to be shown with it")
    return ids


def shapes(specimen: Specimen) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tap at this text, in the order they fire; nothing is computed for it."""
    model, listener = build(specimen.model.plan, device="meta").eval(), Listener()
    read = [ids for ids in (specimen.source, specimen.ids) if ids is not None]
    with torch.no_grad():
        model(*(torch.zeros(1, len(ids), dtype=torch.long, device="meta") for ids in read), tap=listener)
    return listener.shapes
