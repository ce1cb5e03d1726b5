"""A head that predicts nothing, and BERT's pooler in front of classes."""

from dataclasses import replace

import pytest
import torch

from cutaway import models, spec
from cutaway.models.sites import sites
from cutaway.spec.read import read_model
from cutaway.spec.write import write_model
from cutaway.tap import Recorder
from tests.unit.tiny import plan, reads, redrawn

HEADS = (
    spec.Vectors(),
    spec.Vectors(spec.Pooler()),
    spec.Classify(3, pooler=spec.Pooler()),
    spec.Classify(3),
)


def with_head(head: spec.Head):
    return replace(plan("bert"), head=head)


@pytest.mark.parametrize("head", HEADS)
def test_a_spec_is_read_as_it_was_written(head):
    assert read_model(write_model(with_head(head))) == with_head(head)


@torch.no_grad()
def test_vectors_are_the_last_ones():
    model = redrawn(models.build(with_head(spec.Vectors(spec.Pooler()))))
    (tokens,) = reads(plan("bert"))
    tap = Recorder({"head.pooled", "blocks.1.out"})
    said = model(tokens, tap=tap)
    assert torch.equal(said, model.features(tokens)) and torch.equal(said, tap.seen["blocks.1.out"])
    dense = model.head.pooler.dense
    want = torch.tanh(said[:, 0] @ dense.weight.T + dense.bias)
    assert torch.allclose(tap.seen["head.pooled"], want, rtol=0, atol=1e-12)
    assert (tap.seen["head.pooled"] - said[:, 0]).abs().max() > 0.1


@torch.no_grad()
def test_classes_are_scored_behind_the_pooler():
    model = redrawn(models.build(with_head(spec.Classify(3, pooler=spec.Pooler()))))
    (tokens,) = reads(plan("bert"))
    head = model.head
    pooled = torch.tanh(head.pooler.dense(model.features(tokens)[:, 0]))
    assert torch.allclose(model(tokens), head.out(pooled), rtol=0, atol=1e-12)
    assert (model(tokens) - head.out(model.features(tokens)[:, 0])).abs().max() > 0.1


def test_sites_follow_the_head():
    assert "head.pooled" not in sites(with_head(spec.Vectors()))
    assert "logits" not in sites(with_head(spec.Vectors()))
    assert sites(with_head(spec.Vectors(spec.Pooler())))["head.pooled"] == (1, 16)
    assert sites(with_head(spec.Classify(3, pooler=spec.Pooler())))["logits"] == (1, 3)
