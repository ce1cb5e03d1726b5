"""What a transformer can and cannot tell: order, the future, padding.

B batch   L position   D width
"""

import pytest
import torch

from cutaway import models, spec
from tests.unit.tiny import PAIRS, VOCAB, plan, reads, redrawn, tiny

ENDS = {"rtol": 0, "atol": 1e-10}


def encoder(
    position=None, rotary=None, bias=None, sees="all", layers=2, order="pre", window=None
) -> models.Single:
    norm = spec.LayerNorm()
    block = spec.Block(spec.Attention(4, rotary=rotary, bias="qkvo", window=window), spec.MLP(24), norm)
    stack = spec.Stack(layers, (block,), sees, bias)
    tokens = spec.Tokens(VOCAB, position)
    return redrawn(models.build(spec.Single(16, tokens, stack, spec.NextToken())))


def test_without_positions_permuted_tokens_give_permuted_results():
    model, (tokens_BL,) = encoder(), reads(plan("bert"))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(tokens_BL[:, order]), model(tokens_BL)[:, order], **ENDS)


@pytest.mark.parametrize(
    "kind",
    [
        {"position": spec.Learned(12)},
        {"position": spec.Sinusoidal()},
        {"rotary": spec.Rotary()},
        {"bias": spec.ALiBi()},
        {"bias": spec.RelativeBias()},
        {"sees": "past"},
        {"window": 2},
    ],
    ids=lambda kind: str(*kind.values()).split("(")[0],
)
def test_every_kind_of_position_and_the_causal_mask_end_that(kind):
    model, (tokens_BL,) = encoder(**kind), reads(plan("bert"))
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    assert (model(tokens_BL[:, order]) - model(tokens_BL)[:, order]).abs().max() > 1e-3


@pytest.mark.parametrize("preset", ["gpt2", "llama3", "small", "quick"])
def test_no_position_feels_the_future(preset):
    model, (tokens_BL,) = tiny(preset), reads(plan(preset))
    felt = influence(model, model.input.token.weight[tokens_BL[:1]])
    assert torch.equal(felt, torch.ones(7, 7).tril().bool())


@pytest.mark.parametrize("bias", [None, spec.ALiBi(), spec.RelativeBias()])
def test_no_position_feels_the_future_beside_a_bias(bias):
    model, (tokens_BL,) = encoder(bias=bias, sees="past"), reads(plan("bert"))
    felt = influence(model, model.input.token.weight[tokens_BL[:1]])
    assert torch.equal(felt, torch.ones(7, 7).tril().bool())


def test_an_encoder_feels_everything_and_a_window_ends_where_it_should():
    model, (tokens_BL,) = encoder(), reads(plan("bert"))
    vectors = model.input.token.weight[tokens_BL[:1]]
    assert influence(model, vectors).all()
    model = encoder(sees="past", window=3, layers=1)
    assert torch.equal(influence(model, vectors), torch.ones(7, 7).tril().triu(-2).bool())
    model = encoder(sees="past", window=3, layers=2)
    assert torch.equal(influence(model, vectors), torch.ones(7, 7).tril().triu(-4).bool()), (
        "two layers, twice as far"
    )


def test_a_decoder_feels_the_whole_source_and_its_own_past():
    for preset in ("t5", "vaswani"):
        model = tiny(preset)
        source_BM, target_BL = reads(model.plan, batch=1)
        memory_BMD = model.encode(source_BM).detach().requires_grad_()
        x_BLD = model.decode(target_BL, memory_BMD)
        for place in range(5):
            slope = torch.autograd.grad(x_BLD[:, place].sum(), memory_BMD, retain_graph=True)[0]
            assert (slope.abs().sum(-1) > 1e-12).all()
        changed = target_BL.clone()
        changed[:, 3] = (changed[:, 3] + 1) % VOCAB
        moved = (model(source_BM, changed) - model(source_BM, target_BL)).abs().amax((0, 2)) > 0
        assert moved.tolist() == [False, False, False, True, True]


def influence(model: models.Single, vectors_BLD: torch.Tensor) -> torch.Tensor:
    """(L, L): whether the output at the row moves with the token vector at the column."""
    vectors_BLD = vectors_BLD.detach().requires_grad_()
    model.input.token.forward = lambda tokens: vectors_BLD
    x_BLD = model.features(torch.zeros(vectors_BLD.shape[:2], dtype=torch.long))
    pull = torch.randn(x_BLD.size(-1), dtype=x_BLD.dtype, generator=torch.Generator().manual_seed(3))
    rows = []
    for place in range(x_BLD.size(1)):
        slope = torch.autograd.grad((x_BLD[0, place] * pull).sum(), vectors_BLD, retain_graph=True)[0][0]
        rows.append(slope.abs().sum(-1) > 1e-14)
    return torch.stack(rows)


def padded(tokens: list[torch.Tensor], where: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of unequal length in one batch, with random tokens as padding, and where they are real."""
    width = max(len(row) for row in tokens) + 3
    generator = torch.Generator().manual_seed(9)
    out = torch.randint(0, VOCAB, (len(tokens), width), generator=generator)
    real = torch.zeros(len(tokens), width, dtype=torch.bool)
    for number, row in enumerate(tokens):
        spare = width - len(row)
        first = {"right": 0, "left": spare, "mixed": spare * number // len(tokens)}[where]
        out[number, first : first + len(row)], real[number, first : first + len(row)] = row, True
    return out, real


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("where", ["left", "right", "mixed"])
@pytest.mark.parametrize("preset", ["gpt2", "llama3", "bert", "small", "quick", "alibi", "relative"])
def test_padding_changes_nothing(preset, where, dtype):
    """Whatever stands there, and on whichever side; positions count the real tokens."""
    kinds = {"alibi": spec.ALiBi(), "relative": spec.RelativeBias()}
    model = encoder(bias=kinds[preset], sees="past") if preset in kinds else tiny(preset)
    model = model.to(dtype)
    rows = [
        row[:length] for row, length in zip(reads(plan("bert"), batch=3, length=7)[0], (7, 4, 1), strict=True)
    ]
    tokens_BL, padding_BL = padded(rows, where)
    logits = model(tokens_BL, padding_BL=padding_BL)
    worst, scale = 0.0, 1.0
    for number, row in enumerate(rows):
        alone = model(row[None])[0]
        worst = max(worst, (logits[number, padding_BL[number]] - alone).abs().max().item())
        scale = max(scale, alone.abs().max().item())
    assert worst <= (1e-10 if dtype == torch.float64 else 2e-6) * scale
    blind = model(tokens_BL)[1, padding_BL[1]] - model(rows[1][None])[0]
    if where != "right" or preset == "bert":
        assert blind.abs().max() > 1e-3, "without the mask the padding is seen"


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
@pytest.mark.parametrize("where", ["left", "right", "mixed"])
@pytest.mark.parametrize("preset", ["t5", "vaswani", "quick_pair", *PAIRS])
def test_padding_changes_nothing_in_pairs(preset, where, dtype, most):
    model = tiny(preset).to(dtype)
    sources = [row[:n] for row, n in zip(reads(plan("bert"), 3, 7, seed=5)[0], (7, 4, 1), strict=True)]
    targets = [row[:n] for row, n in zip(reads(plan("bert"), 3, 7, seed=6)[0], (2, 5, 3), strict=True)]
    (source_BM, real_BM), (target_BL, real_BL) = padded(sources, where), padded(targets, where)
    logits = model(source_BM, target_BL, source_padding_BM=real_BM, target_padding_BL=real_BL)
    for number, (source, target) in enumerate(zip(sources, targets, strict=True)):
        alone = model(source[None], target[None])[0]
        apart = (logits[number, real_BL[number]] - alone).abs().max()
        assert apart <= most * max(1.0, alone.abs().max().item())
    wrong = model(source_BM, target_BL, target_padding_BL=real_BL)
    assert (wrong - logits)[1, real_BL[1]].abs().max() > 1e-3


def test_a_row_of_padding_only_gives_numbers_and_no_gradient_but_its_own():
    model, (tokens_BL,) = tiny("small"), reads(plan("small"))
    padding_BL = torch.tensor([[True] * 7, [False] * 7])
    logits = model(tokens_BL, padding_BL=padding_BL)
    assert logits.isfinite().all()
    logits[0].sum().backward()
    together = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    model(tokens_BL[:1])[0].sum().backward()
    for ours, parameter in zip(together, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, **ENDS)
