"""What is studied: a model, compiled or not, or a session with a model and a tokenizer; and what it reads.

B batch   L position
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cutaway import spec
from cutaway.data.begin import front_ids, source_ids, target_tokenizer, template_ids
from cutaway.errors import ConfigError, LimitError

Inputs = Any  # text, token ids, a list of either, a tensor; for an encoder-decoder a pair of those


GRAPHS = 200  # a 124M model has about as many taps


class Subject(NamedTuple):
    """`run` is what is called (it may be compiled), `model` the module itself."""

    run: nn.Module
    model: nn.Module
    plan: spec.Model
    tokenizer: Any


def subject(thing: Any) -> Subject:
    """The subject that a model, a compiled model or a session is.

    Raises ConfigError for anything else.
    """
    run = thing if isinstance(thing, nn.Module) else getattr(thing, "model", None)
    model = getattr(run, "_orig_mod", run)  # torch.compile's wrapper keeps the module there
    plan = getattr(model, "plan", None)
    if not isinstance(run, nn.Module) or not isinstance(model, nn.Module) or not isinstance(plan, spec.Model):
        raise ConfigError(f"{type(thing).__name__} is neither a model of cutaway nor a session with one")
    return Subject(run, model, plan, getattr(thing, "tokenizer", None))


def arguments(studied: Subject, inputs: Inputs) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """The positional and the keyword arguments that make the model read `inputs`.

    Rows of unequal length are padded on the right. Raises LimitError for no tokens, for ids outside the
    vocabulary and for text without a tokenizer.
    """
    plan = studied.plan
    if isinstance(plan, spec.Paired | spec.Seq2Seq):
        if not isinstance(inputs, tuple | list) or len(inputs) != 2:
            raise LimitError("an encoder-decoder reads a pair: (source, target)")
        source_BM, source_padding_BM = rows(studied, as_source(studied, inputs[0]), plan.source)
        writing = studied._replace(tokenizer=target_tokenizer(studied.tokenizer))
        target_BL, target_padding_BL = rows(writing, inputs[1], plan.target or plan.source)
        padding = {"source_padding_BM": source_padding_BM, "target_padding_BL": target_padding_BL}
        return (source_BM, target_BL), {name: mask for name, mask in padding.items() if mask is not None}
    assert isinstance(plan, spec.Single | spec.Recurrence)
    if not isinstance(plan.input, spec.Tokens):
        images = torch.as_tensor(inputs)
        return (images if images.dim() == 4 else images[None],), {}
    tokens_BL, padding_BL = rows(studied, inputs, plan.input)
    return (tokens_BL,), {} if padding_BL is None else {"padding_BL": padding_BL}


def rows(studied: Subject, inputs: Inputs, reads: spec.Input) -> tuple[Tensor, Tensor | None]:
    """Token ids (B, L), and where they are real, None where everywhere."""
    several = isinstance(inputs, Sequence) and not isinstance(inputs, str)
    if several and inputs and not isinstance(inputs[0], int):
        each = [ids(studied, row) for row in inputs]
    else:
        each = list(torch.atleast_2d(ids(studied, inputs)))
    if not each or any(row.numel() == 0 for row in each):
        raise LimitError("there is no token to read: give text of at least one token")
    device = next(studied.model.parameters()).device
    length = max(row.numel() for row in each)
    tokens_BL = torch.zeros(len(each), length, dtype=torch.long)
    padding_BL = torch.zeros(len(each), length, dtype=torch.bool)
    for number, row in enumerate(each):
        tokens_BL[number, : row.numel()], padding_BL[number, : row.numel()] = row, True
    least, most = int(tokens_BL.min()), int(tokens_BL.max())
    if isinstance(reads, spec.Tokens) and not 0 <= least <= most < reads.vocab:
        raise LimitError(f"token {most if least >= 0 else least} is outside the vocabulary of {reads.vocab}")
    return tokens_BL.to(device), None if bool(padding_BL.all()) else padding_BL.to(device)


def ids(studied: Subject, inputs: Inputs) -> Tensor:
    """Text or numbers as token ids."""
    if isinstance(inputs, str):
        if studied.tokenizer is None:
            raise LimitError("text needs a tokenizer: give a session, or token ids")
        inputs = text_ids(studied.plan, studied.tokenizer, inputs)
    return torch.as_tensor(inputs).long()


def text_ids(plan: spec.Model, tokenizer: Any, text: str, length: int | None = None) -> np.ndarray:
    """The ids of a text, at most `length`: a model that sees all reads it as a whole, as `fill` and `embed`
    have it, one that sees the past behind what the tokenizer puts in front of a text, as `generate` has it.
    """
    if isinstance(plan, spec.Single) and plan.stack.sees == "all":
        return template_ids(tokenizer, text, length)
    ids = tokenizer.encode(text)
    if isinstance(plan, spec.Single | spec.Recurrence) and len(ids):
        ids = np.concatenate([np.array(front_ids(tokenizer), ids.dtype), ids])
    return ids[:length]


def as_source(studied: Subject, inputs: Inputs) -> Inputs:
    """The same with text as the ids that an encoder reads of it; ids as they are."""
    if isinstance(inputs, str) and studied.tokenizer is not None:
        return source_ids(studied.tokenizer, inputs)
    if isinstance(inputs, list | tuple):
        return [as_source(studied, row) for row in inputs]
    return inputs


@contextmanager
def looking(studied: Subject) -> Iterator[None]:
    """No gradients, no dropout; training mode comes back afterwards."""
    training = studied.model.training
    if training:
        studied.model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if training:
            studied.model.train()


def many_graphs() -> AbstractContextManager[Any]:
    """Room for a compiled graph for each set of taps looked at; torch gives up after the eighth otherwise."""
    dynamo = sys.modules.get("torch._dynamo")  # where it was never imported nothing is compiled
    return nullcontext() if dynamo is None else dynamo.config.patch(recompile_limit=GRAPHS)
