"""What a recurrent writer sees of the source, against loops over rows, steps and places written out."""

import pytest
import torch
from torch import Tensor

from cutaway import spec
from cutaway.nn.look import Additive, Multiplicative
from cutaway.nn.memory import Memory
from cutaway.nn.recurrent import Reading, RecurrentWriter, Running
from cutaway.tap import Recorder, off

B, L, M, D, K = 3, 4, 5, 6, 8
REAL = torch.tensor([[True] * 5, [True, True, False, False, False], [False] * 5])


def writer_of(look: spec.Look, cell: str = "gru", layers: int = 2, memory: int = D) -> RecurrentWriter:
    writer = RecurrentWriter(spec.RecurrentWriter(layers, look, cell), D)
    writer.connect(memory)
    return writer.double().eval()


def reading_of(width: int = D, cell: str = "gru", directions: int = 1) -> Reading:
    values = torch.randn(B, M, width, dtype=torch.float64)
    parts = 1 if cell == "gru" else 2
    held = [tuple(torch.randn(directions, B, D, dtype=torch.float64) for _ in range(parts)) for _ in range(2)]
    return Reading(Memory(values, values, REAL), held)


def tokens() -> Tensor:
    return torch.randn(B, L, D, dtype=torch.float64)


def softmax_over_real(scores: list[Tensor], row: int) -> list[Tensor]:
    total = sum(s.exp() for s, real in zip(scores, REAL[row], strict=True) if real)
    return [s.exp() / total if real else torch.zeros(()) for s, real in zip(scores, REAL[row], strict=True)]


def advance(writer: RecurrentWriter, x: Tensor, held: list[Tensor]) -> list[Tensor]:
    """One step of GRU layers: torch's own cell, layer by layer."""
    out = []
    for layer, h in zip(writer.layers, held, strict=True):
        weights = (layer.weight_ih_l0, layer.weight_hh_l0, layer.bias_ih_l0, layer.bias_hh_l0)
        x = torch.gru_cell(x[None], h[None], *weights)[0]
        out.append(x)
    return out


def additive(writer: RecurrentWriter, reading: Reading, x_BLD: Tensor, row: int) -> Tensor:
    """Bahdanau et al. 2014, one number after the other."""
    look, h = writer.look, reading.memory.values[row]
    held = [torch.tanh(first(reading.held[-1][0][-1, row])) for first in look.first]
    out = []
    for x in x_BLD[row]:
        scores = [look.score(torch.tanh(look.query(held[-1]) + look.key(h[m])))[0] for m in range(M)]
        found = sum(p * h[m] for m, p in enumerate(softmax_over_real(scores, row)))
        held = advance(writer, torch.cat([x, found]), held)
        out.append(torch.tanh(look.out(torch.cat([found, x, held[-1]]))))
    return torch.stack(out)


def multiplicative(writer: RecurrentWriter, reading: Reading, x_BLD: Tensor, row: int) -> Tensor:
    """Luong et al. 2015."""
    look, h = writer.look, reading.memory.values[row]
    held = [states[0][0, row] for states in reading.held]
    out = []
    for x in x_BLD[row]:
        held = advance(writer, x, held)
        scores = [held[-1] @ (h[m] if look.key is None else look.key.weight @ h[m]) for m in range(M)]
        found = sum(p * h[m] for m, p in enumerate(softmax_over_real(scores, row)))
        out.append(torch.tanh(look.out.weight @ torch.cat([found, held[-1]])))
    return torch.stack(out)


@pytest.mark.parametrize(
    ("look", "oracle", "width", "directions"),
    [
        (spec.Additive(), additive, K, 2),
        (spec.Additive(hidden=3), additive, D, 1),
        (spec.Multiplicative("general"), multiplicative, D, 1),
        (spec.Multiplicative("dot"), multiplicative, D, 1),
    ],
)
def test_attention_is_the_loop_of_the_paper(look, oracle, width, directions):
    writer, reading, x_BLD = writer_of(look, memory=width), reading_of(width, directions=directions), tokens()
    made_BLD = writer(x_BLD, writer.start(reading))
    for row in range(B):
        assert (made_BLD[row] - oracle(writer, reading, x_BLD, row)).abs().max() < 1e-10
    with torch.no_grad():
        (writer.look.key.weight if writer.look.key is not None else writer.look.out.weight)[0] += 0.5
    spoiled_BLD = writer(x_BLD, writer.start(reading))
    assert (spoiled_BLD - made_BLD).abs().max() > 1e-6


def run(writer: RecurrentWriter, entering: Tensor, held: list) -> Tensor:
    """The layers alone, without their look."""
    state = Running()
    state.held = held
    return writer.run(entering, state)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_of_the_source_last_state_sees_what_it_starts_from_and_nothing_else(cell):
    writer, x_BLD, reading = writer_of(spec.LastState(), cell), tokens(), reading_of(cell=cell)
    made_BLD = writer(x_BLD, writer.start(reading))
    assert torch.equal(made_BLD, run(writer, x_BLD, reading.held))
    other = reading_of(cell=cell)
    elsewhere_BLD = writer(x_BLD, writer.start(reading._replace(memory=other.memory)))
    assert torch.equal(made_BLD, elsewhere_BLD)
    later_BLD = writer(x_BLD, writer.start(reading._replace(held=other.held)))
    assert bool(((later_BLD - made_BLD).abs().amax((0, 2)) > 1e-4).all())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_summary_enters_every_step(cell):
    writer, x_BLD, reading = writer_of(spec.Summary(), cell), tokens(), reading_of(cell=cell)
    made_BLD = writer(x_BLD, writer.start(reading))
    entering = torch.cat([x_BLD, reading.held[-1][0][0][:, None].expand(B, L, D)], -1)
    assert torch.equal(made_BLD, run(writer, entering, reading.held))
    for place in range(L):
        others = entering.clone()
        others[:, place, D:] += 1.0
        moved_L = (run(writer, others, reading.held) - made_BLD).abs().amax((0, 2)) > 1e-6
        assert moved_L.tolist() == [step >= place for step in range(L)]


@pytest.mark.parametrize("look", [spec.LastState(), spec.Summary(), spec.Multiplicative()])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_reader_of_both_ways_is_bridged_layer_by_layer_and_one_of_one_is_not(look, cell):
    writer, reading = writer_of(look, cell, memory=2 * D), reading_of(2 * D, cell, 2)
    state, bridge = writer.start(reading), writer.look.bridge
    for layer, (parts, held) in enumerate(zip(reading.held, state.held, strict=True)):
        for row in range(B):
            ahead_back = [torch.cat([part[0, row], part[1, row]]) for part in parts]
            maps = [bridge.state[layer], *([bridge.cell[layer]] if cell == "lstm" else [])]
            want = [a.weight @ x + a.bias for a, x in zip(maps, ahead_back, strict=True)]
            want[0] = want[0].tanh()
            assert all((h[0, row] - w).abs().max() < 1e-12 for h, w in zip(held, want, strict=True))
        assert [tuple(part.shape) for part in held] == [(1, B, D)] * len(parts)
    if isinstance(look, spec.Summary):
        assert torch.equal(state.memory.values[:, 0], state.held[-1][0][0])
    forward = writer_of(look, cell)
    plain = reading_of(cell=cell)
    assert forward.start(plain).held is plain.held
    assert not list(forward.look.bridge.parameters())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_additive_starts_from_what_read_backward_first_token_last(cell):
    writer, reading = writer_of(spec.Additive(), cell, memory=K), reading_of(K, cell, 2)
    state = writer.start(reading)
    for layer, held in enumerate(state.held):
        want_BD = torch.tanh(writer.look.first[layer](reading.held[-1][0][1]))
        assert torch.equal(held[0][0], want_BD)
        assert not torch.equal(held[0][0], torch.tanh(writer.look.first[layer](reading.held[-1][0][0])))
        assert len(held) == (2 if cell == "lstm" else 1) and not any(cell_.any() for cell_ in held[1:])


@pytest.mark.parametrize("look", [spec.Additive(), spec.Multiplicative()])
def test_a_source_of_padding_is_found_as_zero_with_a_finite_gradient(look):
    writer, reading, x_BLD = writer_of(look), reading_of(), tokens().requires_grad_()
    tap = Recorder(["look.pattern", "look.mix"])
    made_BLD = writer(x_BLD, writer.start(reading), tap=tap)
    made_BLD.sum().backward()
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in writer.parameters())
    assert bool(made_BLD.isfinite().all()) and bool(x_BLD.grad.isfinite().all())
    assert not tap.seen["look.pattern"][2].any() and not tap.seen["look.mix"][2].any()
    assert torch.allclose(tap.seen["look.pattern"][:2].sum(-1), torch.ones(2, 1, L, dtype=torch.float64))
    assert not tap.seen["look.pattern"][1, :, :, 2:].any()


def test_the_taps_of_a_look_are_those_of_attention():
    for look, kind in ((spec.Additive(), Additive), (spec.Multiplicative(), Multiplicative)):
        writer, reading = writer_of(look), reading_of()
        assert isinstance(writer.look, kind)
        names = [f"look.{site}" for site in ("scores", "pattern", "mix", "out")]
        tap = Recorder(names)
        made_BLD = writer(tokens(), writer.start(reading), tap=tap)
        shapes = [tuple(tap.seen[name].shape) for name in names]
        assert shapes == [(B, 1, L, M), (B, 1, L, M), (B, 1, L, D), (B, L, D)]
        assert torch.equal(tap.seen["look.out"], made_BLD)
        pattern_B1LM = torch.softmax(tap.seen["look.scores"][:2], -1)
        assert torch.allclose(pattern_B1LM, tap.seen["look.pattern"][:2])
        assert off.during(0, 1) is off
