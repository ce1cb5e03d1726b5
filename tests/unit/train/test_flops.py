"""The count of arithmetic against torch's own counter, on one step of training."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from cutaway import spec
from cutaway.models import build
from cutaway.spec.model import MLP, Attention, Block, NextToken, RMSNorm, Single, Stack, Tokens
from cutaway.spec.presets import bert, gpt2, llama3, quick, t5, vaswani
from cutaway.train.flops import training_cost, training_flops
from cutaway.train.loss import IGNORE, Batch, class_loss, next_token_loss, scored_token_loss
from tests.unit import tiny

L, B = 24, 2
SIZES = {"layers": 2, "width": 32, "heads": 4, "vocab": 50}


def shared() -> Single:
    """Two sets of weights for five layers."""
    block = Block(Attention(4), MLP(64), RMSNorm())
    return Single(32, Tokens(50), Stack(5, (block,), "past", distinct=2), NextToken())


MODELS = {
    "gpt2": gpt2(length=L, **SIZES),
    "llama3": llama3(kv_heads=2, hidden=48, **SIZES),
    "quick": quick(**SIZES),
    "shared": shared(),
    "vaswani": vaswani(hidden=64, dropout=0.0, **SIZES),
    "t5": t5(hidden=64, **SIZES),
}
PRIOR = {name: tiny.plan(name, width=32, vocab=50) for name in tiny.PAIRS if name != "gehring"}
PRIOR["gehring"] = tiny.plan("gehring", width=32, vocab=50, length=L)


def counted(plan: spec.Model) -> float:
    """What torch counts for forward and backward of one batch, a token."""
    model = build(plan).double().train()  # in fp32 recurrent layers are one kernel, which torch cannot count
    generator = torch.Generator().manual_seed(0)
    sides = 1 + isinstance(plan, spec.Paired | spec.Seq2Seq)
    inputs = tuple(torch.randint(50, (B, L), generator=generator) for _ in range(sides))
    # the kernel that is written out, because torch has no count for the fused one of processors
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next_token_loss(model, Batch(inputs, inputs[-1]), B * L).backward()
    return counter.get_total_flops() / (B * L)


@pytest.mark.parametrize("name", MODELS)
def test_equals_what_torch_counts(name, monkeypatch):
    """torch counts the scores of all positions, also those a causal mask makes useless; and the sum of
    squares in an RMSNorm, which we do not.
    """
    model = build(MODELS[name])
    monkeypatch.setattr("cutaway.train.flops.positions_seen", lambda stack, part, length: length)
    assert training_flops(model, L) == pytest.approx(
        counted(MODELS[name]), rel=1e-9 if name in ("gpt2", "vaswani") else 0.005
    )


@pytest.mark.parametrize("name", PRIOR)
def test_recurrent_and_convolutional_pairs_equal_what_torch_counts(name, monkeypatch):
    """Within what the first step saves, whose state is zero and has no gradient."""
    model, want = build(PRIOR[name]), counted(PRIOR[name])
    assert training_flops(model, L) == pytest.approx(want, rel=0.005)
    if name in tiny.BRIDGED:  # the control: a bridge crossed at every position
        monkeypatch.setattr("cutaway.train.flops.starting", lambda module: 0.0)
        assert training_flops(model, L) > 1.05 * want


def test_a_planted_mistake_is_found(monkeypatch):
    """Attention alone is 13 % here; half of it missing must not pass."""
    model = build(MODELS["gpt2"])
    assert training_flops(model, L) < 0.97 * counted(MODELS["gpt2"])
    assert training_flops(build(MODELS["shared"]), L) > 1.5 * 6 * sum(p.numel() for p in model.parameters())


def classes() -> Single:
    """A classifier of three classes."""
    block = Block(Attention(4), MLP(64), RMSNorm())
    return Single(32, Tokens(50), Stack(2, (block,), "all"), spec.Classify(classes=3, pooler=spec.Pooler()))


@pytest.mark.parametrize("kind", ["hidden", "classes"])
def test_a_head_that_scores_little_costs_little(kind):
    """A masked model's head sees the hidden positions alone, a classifier's one vector a row."""
    model = build(bert(length=L, **SIZES) if kind == "hidden" else classes()).train()
    tokens_BL = torch.randint(50, (B, L), generator=torch.Generator().manual_seed(0))
    targets = torch.full((B, L), IGNORE)
    targets[:, 3:7] = tokens_BL[:, 3:7]
    batch = Batch((tokens_BL,), targets if kind == "hidden" else torch.tensor([2, 0]))
    loss = scored_token_loss if kind == "hidden" else class_loss
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        loss(model, batch, batch.scored).backward()
    cost = training_cost(model, L)
    assert batch.read == (B * L,) and batch.scored == (8 if kind == "hidden" else 2)
    assert cost.of(batch.read, batch.scored) == pytest.approx(counter.get_total_flops(), rel=0.005)
    assert cost.of([B * L], B * L) == pytest.approx(B * L * training_flops(model, L))
    assert cost.of([B * L], B * L) > 1.02 * counter.get_total_flops(), "all through the head must count more"


def test_padding_is_not_read():
    ids, real = torch.zeros(2, 5, dtype=torch.long), torch.arange(5)[None] < torch.tensor([[5], [2]])
    assert Batch((ids,), ids).read == (10,)
    assert Batch((ids, ids[:, :3]), ids[:, :3], (real, real[:, :3])).read == (7, 5)


@pytest.mark.parametrize(
    ("sees", "window", "seen"),
    [
        ("past", None, sum(range(1, 13)) / 12),
        ("past", 4, (1 + 2 + 3 + 9 * 4) / 12),
        ("past", 99, sum(range(1, 13)) / 12),
        ("all", None, 12),
        ("all", 3, (3 + 4 + 8 * 5 + 4 + 3) / 12),
    ],
)
def test_positions_seen_are_those_the_mask_allows(sees, window, seen):
    from cutaway.nn.mask import settle
    from cutaway.train.flops import positions_seen

    block = Block(Attention(2, window=window), MLP(8), RMSNorm())
    model = build(Single(8, Tokens(5), Stack(1, (block,), sees), NextToken()))
    allowed = settle(sees, 12, 12, window=window, bias=torch.zeros(2, 12, 12)).allowed
    counted = 12.0 if allowed is None else allowed.float().sum(-1).mean().item()
    assert counted == pytest.approx(seen)
    assert positions_seen(model, model.blocks[0].mixer, 12) == pytest.approx(seen, rel=0.05)
