"""The convolutional reader and writer against loops over rows, layers and positions written out."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway import spec
from cutaway.nn.convolution import (
    Convolution,
    ConvolutionalReader,
    ConvolutionalWriter,
    History,
    Written,
)
from cutaway.nn.memory import Memory
from cutaway.nn.recurrent import Reading
from cutaway.tap import Recorder

B, L, M, D = 3, 6, 5, 4
LENGTHS = (5, 2, 0)
REAL = torch.arange(M)[None] < torch.tensor(LENGTHS)[:, None]
HALF = math.sqrt(0.5)


def reader_of(kernel: int = 3) -> ConvolutionalReader:
    return ConvolutionalReader(spec.Convolutional(2, kernel), D).double().eval()


def writer_of(kernel: int = 3) -> ConvolutionalWriter:
    return ConvolutionalWriter(spec.ConvolutionalWriter(2, kernel), D).double().eval()


def drawn(positions: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(B, positions, D, generator=generator, dtype=torch.float64)


def gated(convolution: Convolution, window: list[Tensor]) -> Tensor:
    """One position: a product for each place of the kernel, then the gate."""
    made = convolution.bias.clone()
    for place, x in enumerate(window):
        made = made + convolution.weight[:, :, place] @ x
    return made[:D] * torch.sigmoid(made[D:])


def read_slowly(reader: ConvolutionalReader, x_MD: Tensor) -> list[Tensor]:
    """What the paper's encoder makes of one row of real tokens."""
    z = list(x_MD)
    for layer in reader.layers:
        around = layer.convolution.kernel_size[0] // 2
        padded = [torch.zeros(D, dtype=x_MD.dtype)] * around
        padded = [*padded, *z, *padded]
        z = [(x + gated(layer.convolution, padded[m : m + 2 * around + 1])) * HALF for m, x in enumerate(z)]
    return z


def write_slowly(writer: ConvolutionalWriter, x_LD: Tensor, keys: list[Tensor], values: list[Tensor]):
    """What the paper's decoder makes of one row: gated convolution, attention, residual, layer by layer."""
    h = list(x_LD)
    for layer in writer.layers:
        behind = layer.convolution.kernel_size[0] - 1
        padded = [torch.zeros(D, dtype=x_LD.dtype)] * behind + h
        out = []
        for place, x in enumerate(h):
            made = gated(layer.convolution, padded[place : place + behind + 1])
            query = (layer.look.query(made) + x_LD[place]) * HALF
            found = torch.zeros(D, dtype=x_LD.dtype)
            weights = [(query @ key).exp() for key in keys]
            for weight, value in zip(weights, values, strict=True):
                found = found + weight / sum(weights) * value
            out.append((x + (made + found * math.sqrt(len(keys))) * HALF) * HALF)
        h = out
    return torch.stack(h)


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_the_reader_is_a_loop_over_positions(kernel):
    reader, x_BMD = reader_of(kernel), drawn(M)
    memory = reader(x_BMD, padding_BM=REAL).memory
    for row, length in enumerate(LENGTHS[:2]):
        z = torch.stack(read_slowly(reader, x_BMD[row, :length]))
        assert (memory.keys[row, :length] - z).abs().max() < 1e-10
        assert (memory.values[row, :length] - (z + x_BMD[row, :length]) * HALF).abs().max() < 1e-10
    leaking = reader(x_BMD).memory  # the control: padding read as if it were real
    assert ((leaking.keys - memory.keys)[1, :2].abs().max() > 1e-6) == (kernel > 1)


@pytest.mark.parametrize("kernel", [1, 2, 3])
def test_the_writer_is_a_loop_over_positions(kernel):
    writer, x_BLD = writer_of(kernel), drawn(L)
    memory = Memory(drawn(M, 1), drawn(M, 2), REAL)
    made_BLD = writer(x_BLD, writer.start(Reading(memory, [])))
    for row, length in enumerate(LENGTHS):
        keys, values = list(memory.keys[row, :length]), list(memory.values[row, :length])
        assert (made_BLD[row] - write_slowly(writer, x_BLD[row], keys, values)).abs().max() < 1e-10
    swapped = Memory(memory.values, memory.keys, REAL)
    assert (writer(x_BLD, writer.start(Reading(swapped, []))) - made_BLD).abs().max() > 1e-3


def test_a_source_without_padding_is_scaled_by_its_own_length():
    writer, x_BLD, memory = writer_of(), drawn(L), Memory(drawn(M, 1), drawn(M, 2))
    made_BLD = writer(x_BLD, writer.start(Reading(memory, [])))
    same = memory._replace(padding=torch.ones(B, M, dtype=torch.bool))
    assert (writer(x_BLD, writer.start(Reading(same, []))) - made_BLD).abs().max() < 1e-10
    want_LD = write_slowly(writer, x_BLD[0], list(memory.keys[0]), list(memory.values[0]))
    assert (made_BLD[0] - want_LD).abs().max() < 1e-10


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_writer_sees_the_past_by_its_gradient(kernel):
    """Two layers of kernel k reach 2 (k - 1) positions back, and none ahead."""
    writer, memory = writer_of(kernel), Memory(drawn(M, 1), drawn(M, 2), REAL)
    for place in range(L):
        x_BLD = drawn(L).requires_grad_()
        writer(x_BLD, writer.start(Reading(memory, [])))[:, place].sum().backward()
        reached = [bool(x_BLD.grad[:, other].any()) for other in range(L)]
        assert reached == [place - 2 * (kernel - 1) <= other <= place for other in range(L)]


def test_a_history_gives_what_lies_behind_and_zero_in_front_of_the_text():
    x_BLD, history = drawn(L), History()
    padded = F.pad(x_BLD, (0, 0, 2, 0))
    for first, end in ((0, 1), (1, 2), (2, 5), (5, 6)):
        assert torch.equal(history.extend(x_BLD[:, first:end], 2), padded[:, first : end + 2])
    history.truncate(4)
    assert torch.equal(history.extend(x_BLD[:, 4:], 2), padded[:, 4:])
    history.truncate(0)
    assert not history.extend(x_BLD[:, 4:5], 2)[:, :2].any()
    history.select(torch.tensor([2]))
    assert torch.equal(history.extend(x_BLD[2:, 5:], 1), x_BLD[2:, 4:])


def test_a_state_goes_back_and_selects():
    writer, x_BLD = writer_of(), drawn(L)
    memory = Memory(drawn(M, 1), drawn(M, 2), REAL)
    whole_BLD = writer(x_BLD, writer.start(Reading(memory, [])))
    state = writer.start(Reading(memory, []))
    assert isinstance(state, Written)
    writer(x_BLD[:, :4], state)
    writer(torch.ones(B, 1, D, dtype=torch.float64), state)
    state.truncate(9)
    assert state.length == 5
    state.truncate(4)
    picked = torch.tensor([1, 0])
    state.select(picked)
    rest_BLD = writer(x_BLD[picked, 4:], state)
    assert state.length == L
    assert (rest_BLD - whole_BLD[picked, 4:]).abs().max() < 1e-10
    assert (rest_BLD - whole_BLD[picked.flip(0), 4:]).abs().max() > 1e-3


def test_every_layer_of_the_writer_has_the_taps_of_one_head():
    writer, memory = writer_of(), Memory(drawn(M, 1), drawn(M, 2), REAL)
    sites = ("look.scores", "look.pattern", "look.mix", "out")
    names = [f"layers.{depth}.{site}" for depth in range(2) for site in sites]
    tap = Recorder(names)
    made_BLD = writer(drawn(L), writer.start(Reading(memory, [])), tap=tap)
    shapes = [tuple(tap.seen[name].shape) for name in names]
    assert shapes == [(B, 1, L, M), (B, 1, L, M), (B, 1, L, D), (B, L, D)] * 2
    assert torch.equal(tap.seen["layers.1.out"], made_BLD)
    assert not tap.seen["layers.0.look.pattern"][2].any() and bool(made_BLD.isfinite().all())
