"""A reader that reads both ways, and what a writer starts from: against torch's bidirectional layers.

B batch   L target position   M source position   D width   V vocabulary
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cutaway import models, spec
from cutaway.errors import ConfigError
from cutaway.models import AnyModel
from cutaway.nn.look import Multiplicative, Summary
from tests.unit.tiny import BRIDGED, PRIOR, VOCAB, plan, redrawn

D, LAYERS, LENGTHS = 16, 2, (5, 1, 3)
LOOKS = [spec.LastState(), spec.Summary(), spec.Multiplicative()]


def made(look: spec.Look, cell: str, reads: str = "both") -> AnyModel:
    reader = spec.Recurrent(LAYERS, cell, reads)
    writer = spec.RecurrentWriter(LAYERS, look, cell)
    return redrawn(
        models.build(spec.Seq2Seq(D, spec.Tokens(VOCAB), reader, writer, spec.NextToken(bias=True)))
    )


def copied(layers: nn.ModuleList, whole: nn.RNNBase) -> nn.RNNBase:
    """torch's stack of layers with our layers' weights."""
    ours = {
        name.replace("_l0", f"_l{depth}"): value
        for depth, layer in enumerate(layers)
        for name, value in layer.state_dict().items()
    }
    whole.double().load_state_dict(ours)
    return whole


def oracle(model: AnyModel, source_M: Tensor, target_L: Tensor, swapped: bool = False) -> Tensor:
    """One row's logits (L, V): the equations written out around torch's recurrence."""
    look, embed = model.decoder.look, model.source.token.weight
    cell = type(model.encoder.layers[0])
    read = copied(model.encoder.layers, cell(D, D, LAYERS, bidirectional=True))
    h_MK, ends = read(embed[source_M])
    starts = []
    for number, part in enumerate(ends if cell is nn.LSTM else (ends,)):
        ahead, back = (part[1::2], part[::2]) if swapped else (part[::2], part[1::2])  # a layer each
        maps = (look.bridge.state, look.bridge.cell)[number]
        rows = [
            one.weight @ torch.cat([a, b]) + one.bias for one, a, b in zip(maps, ahead, back, strict=True)
        ]
        starts.append(torch.stack(rows))
    starts[0] = starts[0].tanh()
    y_LE = embed[target_L]
    if isinstance(look, Summary):
        y_LE = torch.cat([y_LE, starts[0][-1].expand(len(target_L), D)], -1)
    write = copied(model.decoder.layers, cell(y_LE.size(-1), D, LAYERS))
    s_LD, _ = write(y_LE, tuple(starts) if cell is nn.LSTM else starts[0])
    if isinstance(look, Multiplicative):
        found_LK = (s_LD @ look.key.weight @ h_MK.T).softmax(-1) @ h_MK
        s_LD = torch.tanh(torch.cat([found_LK, s_LD], -1) @ look.out.weight.T)
    return s_LD @ embed.T + model.head.bias


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: type(look).__name__)
def test_both_ways_is_torchs_bidirectional_layers_wherever_padding_stands(look, cell, dtype, most):
    model, generator = made(look, cell), torch.Generator().manual_seed(4)
    source_BM = torch.randint(VOCAB, (3, 5), generator=generator)
    target_BL = torch.randint(VOCAB, (3, 6), generator=generator)
    real_BM = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    rows = [source_BM[row, :length] for row, length in enumerate(LENGTHS)]
    front_BM = torch.stack([row.roll(5 - n) for row, n in zip(source_BM, LENGTHS, strict=True)])
    wanted, swapped = (
        [oracle(model, source_M, target_L, other) for source_M, target_L in zip(rows, target_BL, strict=True)]
        for other in (False, True)
    )
    model = model.to(dtype)
    behind = model(source_BM, target_BL, source_padding_BM=real_BM)
    in_front = model(front_BM, target_BL, source_padding_BM=real_BM.flip(1))
    for row, want_LV in enumerate(wanted):
        bound = most * max(1.0, want_LV.abs().max().item())
        assert (behind[row] - want_LV).abs().max() <= bound
        assert (in_front[row] - want_LV).abs().max() <= bound
        assert (swapped[row] - want_LV).abs().max() > 1e-3  # the control
    unseen = model(source_BM, target_BL)
    assert (unseen - behind)[1:].abs().max() > 1e-3  # padding read as if it were real


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("look", LOOKS, ids=lambda look: type(look).__name__)
def test_both_ends_of_a_source_reach_the_first_state_of_every_layer(look, cell):
    model = made(look, cell)
    source_BM = torch.randint(VOCAB, (1, 5), generator=torch.Generator().manual_seed(4))
    held = model.start(source_BM).held
    assert [len(parts) for parts in held] == [2 if cell == "lstm" else 1] * LAYERS
    assert all(part.shape == (1, 1, D) for parts in held for part in parts)
    for place in (0, 4):
        changed_BM = source_BM.clone()
        changed_BM[0, place] = (changed_BM[0, place] + 1) % VOCAB
        for parts, others in zip(held, model.start(changed_BM).held, strict=True):
            assert all((a - b).abs().max() > 1e-6 for a, b in zip(parts, others, strict=True))
    model(source_BM, source_BM).sum().backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in model.parameters())


@pytest.mark.parametrize("preset", BRIDGED)
def test_a_bridge_counts_and_a_model_that_reads_forward_has_none(preset):
    parts = 1 if preset == "cho_both" else 2
    bridges = 2 * parts * (2 * D * D + D)
    both, name = plan(preset), preset.removesuffix("_both")
    kept = {key: p.numel() for key, p in models.build(both, device="meta").named_parameters()}
    assert sum(size for key, size in kept.items() if key.startswith("decoder.look.bridge.")) == bridges
    assert models.count_parameters(both) == sum(kept.values())
    assert sorted({key.rpartition(".")[0] for key in kept if ".bridge." in key}) == [
        f"decoder.look.bridge.{part}.{layer}" for part in ("cell", "state")[2 - parts :] for layer in range(2)
    ]
    for plain in (name, *PRIOR):
        assert not [key for key in models.build(plan(plain), device="meta").state_dict() if "bridge" in key]


@pytest.mark.parametrize(
    ("look", "cell"), [(spec.LastState(), "gru"), (spec.Summary(), "lstm"), (spec.Multiplicative(), "gru")]
)
def test_the_cells_that_no_preset_has_decode_step_by_step(look, cell):
    model, generator = made(look, cell), torch.Generator().manual_seed(5)
    source_BM, target_BL = (torch.randint(VOCAB, (3, size), generator=generator) for size in (5, 6))
    real_BM = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    whole = model(source_BM, target_BL, source_padding_BM=real_BM)
    state = model.start(source_BM, padding_BM=real_BM)
    steps = [model.step(target_BL[:, place : place + 1], state) for place in range(6)]
    assert (torch.cat(steps, 1) - whole).abs().max() < 1e-10
    state = model.start(source_BM, padding_BM=real_BM)
    state.select(torch.tensor([2, 0]))
    picked = model.step(target_BL[[2, 0]], state)
    assert (picked - whole[[2, 0]]).abs().max() < 1e-10


def test_a_dot_needs_a_reader_that_reads_forward():
    dot = replace(plan("luong"), decoder=spec.RecurrentWriter(2, spec.Multiplicative("dot")))
    assert models.build(dot)
    with pytest.raises(
        ConfigError, match=r"decoder\.look\.form: dot .* take general, or encoder\.reads forward"
    ):
        models.build(replace(dot, encoder=spec.Recurrent(2, reads="both")))
