"""Recurrent layers against the papers' equations, written out in NumPy, and padding that does not count."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cutaway.errors import ConfigError
from cutaway.nn.recurrent import Layers, Running, make_layers, needed, read
from cutaway.tap import off

E, D = 5, 4
LENGTHS = (7, 3, 1, 5)
CELLS = ["lstm", "gru"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def lstm_step(x, held, w, u, b):
    """Gers et al. 2000: what is kept, written, shown. Rows: input, forget, candidate, output."""
    h, c = held
    i, f, g, o = np.split(w @ x + u @ h + b[0] + b[1], 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def gru_step(x, held, w, u, b):
    """Cho et al. 2014, the reset behind the product. Rows: reset, update, candidate."""
    (h,) = held
    (xr, xz, xn), (hr, hz, hn) = np.split(w @ x + b[0], 3), np.split(u @ h + b[1], 3)
    z = sigmoid(xz + hz)
    n = np.tanh(xn + sigmoid(xr + hr) * hn)
    return ((1 - z) * n + z * h,)


def written_out(layer: nn.Module, x_LE: np.ndarray, held: tuple, end: str = "") -> tuple[np.ndarray, tuple]:
    w, u, *b = (
        getattr(layer, f"{kind}_l0{end}").detach().numpy()
        for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    out = []
    for x in x_LE:
        held = (lstm_step if isinstance(layer, nn.LSTM) else gru_step)(x, held, w, u, b)
        out.append(held[0])
    return np.stack(out), held


def layer_of(cell: str, reads: str = "forward") -> nn.Module:
    return make_layers(cell, 1, E, D, reads)[0].double()


def zeros(cell: str) -> tuple:
    return (np.zeros(D),) * (2 if cell == "lstm" else 1)


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x_BLE = torch.randn(len(LENGTHS), max(LENGTHS), E, dtype=dtype)
    return x_BLE, torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]


def apart(a, b) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_is_the_papers_equations(cell):
    layer, (x_BLE, real_BL) = layer_of(cell), rows()
    y_BLK, after = read(layer, x_BLE, None, real_BL)
    for row, length in enumerate(LENGTHS):
        want, held = written_out(layer, x_BLE[row, :length].numpy(), zeros(cell))
        assert apart(y_BLK[row, :length].detach(), want) < 1e-10
        assert all(apart(a[0, row].detach(), b) < 1e-10 for a, b in zip(after, held, strict=True))
        assert not y_BLK[row, length:].any()
    with torch.no_grad():
        layer.weight_hh_l0[2 * D, 0] += 0.01  # of the candidate of either cell
    spoiled = read(layer, x_BLE, None, real_BL)[0].detach()
    assert apart(spoiled, y_BLK.detach()) > 1e-6


@pytest.mark.parametrize("cell", CELLS)
def test_both_ways_is_two_runs_one_over_each_row_reversed(cell):
    layer, (x_BLE, real_BL) = layer_of(cell, "both"), rows()
    y_BLK, after = read(layer, x_BLE, None, real_BL)
    for row, length in enumerate(LENGTHS):
        x_LE = x_BLE[row, :length].numpy()
        ahead, _ = written_out(layer, x_LE, zeros(cell))
        back, held = written_out(layer, x_LE[::-1], zeros(cell), "_reverse")
        assert apart(y_BLK[row, :length].detach(), np.concatenate([ahead, back[::-1]], -1)) < 1e-10
        assert all(apart(a[1, row].detach(), b) < 1e-10 for a, b in zip(after, held, strict=True))
    without = read(layer, x_BLE, None)[0].detach()  # the backward direction then begins in the padding
    assert apart(without[1, :3], y_BLK.detach()[1, :3]) > 1e-3


@pytest.mark.parametrize(("dtype", "most"), [(torch.float64, 1e-10), (torch.float32, 2e-6)])
@pytest.mark.parametrize("reads", ["forward", "both"])
@pytest.mark.parametrize("cell", CELLS)
def test_padding_changes_rounding_only_wherever_it_stands(cell, reads, dtype, most):
    layer, (x_BLE, _) = layer_of(cell, reads).to(dtype), rows(dtype)
    generator = torch.Generator().manual_seed(3)
    for number in range(3):
        longer = max(LENGTHS) + 2
        if number == 2:  # anywhere, also inside
            order = [torch.randperm(longer, generator=generator)[:n].sort().values for n in LENGTHS]
        else:  # behind, in front
            order = [torch.arange(n) + (longer - n) * number for n in LENGTHS]
        spread_BLE = torch.full((len(LENGTHS), longer, E), 1e3, dtype=dtype)
        mask_BL = torch.zeros(len(LENGTHS), longer, dtype=torch.bool)
        for row, places in enumerate(order):
            spread_BLE[row, places], mask_BL[row, places] = x_BLE[row, : len(places)], True
        y_BLK, after = read(layer, spread_BLE, None, mask_BL)
        for row, length in enumerate(LENGTHS):
            alone, held = read(layer, x_BLE[row : row + 1, :length], None)
            assert apart(y_BLK[row, order[row]].detach(), alone[0].detach()) < most
            pairs = zip(after, held, strict=True)
            assert all(apart(a[:, row].detach(), b[:, 0].detach()) < most for a, b in pairs)
        if number:  # the control: padding in front, read as if it were real
            assert apart(read(layer, spread_BLE, None)[0].detach(), y_BLK.detach()) > 1e-3


@pytest.mark.parametrize("cell", CELLS)
def test_a_row_of_padding_leaves_what_is_held_alone(cell):
    layer, (x_BLE, _) = layer_of(cell), rows()
    _, before = read(layer, x_BLE, None)
    real_BL = torch.tensor([[True] * 7, [False] * 7, [True, False] * 3 + [True], [False] * 6 + [True]])
    _, after = read(layer, x_BLE, before, real_BL)
    assert all(torch.equal(a[:, 1], b[:, 1]) for a, b in zip(after, before, strict=True))
    assert not any(torch.equal(a[:, 3], b[:, 3]) for a, b in zip(after, before, strict=True))
    _, fresh = read(layer, x_BLE, None, real_BL)
    assert not any(part[:, 1].any() for part in fresh)


def test_padding_behind_is_not_needed_by_a_forward_direction():
    assert needed(None) is None
    assert needed(torch.tensor([[True, True, False], [True, True, True]])) is None
    front_BL = torch.tensor([[False, True, True], [True, True, True]])
    assert needed(front_BL) is front_BL
    inside_BL = torch.tensor([[True, False, True]])
    assert needed(inside_BL) is inside_BL


def stack_of(dropout: float = 0.0) -> Layers:
    layers = Layers()
    layers.dropout, layers.layers = dropout, make_layers("gru", 2, E, D, "forward")
    return layers.double()


def run(layers: Layers, x_BLE: Tensor, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return layers.run(x_BLE, Running(), tap=off).detach()


def test_dropout_between_layers_is_that_of_the_seed_and_of_training():
    layers, (x_BLE, _) = stack_of(0.5).train(), rows()
    assert torch.equal(run(layers, x_BLE), run(layers, x_BLE))
    assert not torch.equal(run(layers, x_BLE), run(layers, x_BLE, seed=1))
    assert torch.equal(run(layers.eval(), x_BLE), run(layers, x_BLE, seed=1))
    layers.train().layers = layers.layers[:1]  # nothing in front of the lowest layer
    assert torch.equal(run(layers, x_BLE), run(layers, x_BLE, seed=1))


def test_a_state_goes_on_and_selects_but_does_not_go_back():
    layers, (x_BLE, _) = stack_of().eval(), rows()
    state, picked = Running(), torch.tensor([2, 0])
    first_BLK = layers.run(x_BLE[:, :4], state)
    state.select(picked)
    rest_BLK = layers.run(x_BLE[picked, 4:], state)
    whole_BLK = run(layers, x_BLE)
    assert apart(first_BLK.detach(), whole_BLK[:, :4]) < 1e-10
    assert apart(rest_BLK.detach(), whole_BLK[picked, 4:]) < 1e-10
    assert apart(rest_BLK.detach(), whole_BLK[picked.flip(0), 4:]) > 1e-3
    assert state.length == 7
    state.truncate(9)
    with pytest.raises(ConfigError, match="cannot go back from position 7 to 3"):
        state.truncate(3)
