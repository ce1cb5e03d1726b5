"""Positions against brute force, a pair or a bucket at a time, and against transformers.

B batch   L query position   M memory position   H head   K head width
"""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from cutaway import spec
from cutaway.errors import ContextLengthError
from cutaway.nn import part
from cutaway.nn.position import rotate, rotation, slopes

F64 = torch.float64
positions = torch.arange(9)[None]


def drawn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pairs", ["halves", "adjacent"])
@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_rotary_turns_each_pair_by_its_angle(pairs, fraction):
    q = drawn(2, 3, 9, 8)
    width = int(8 * fraction)
    turn = rotation(spec.Rotary(100.0, fraction, pairs), 8, positions, F64)
    got = rotate(q, turn)
    want = q.clone()
    for place in range(9):
        for pair in range(width // 2):
            angle = place / 100.0 ** (2 * pair / width)
            i, j = (2 * pair, 2 * pair + 1) if pairs == "adjacent" else (pair, pair + width // 2)
            point = torch.complex(q[:, :, place, i], q[:, :, place, j])
            point = point * complex(math.cos(angle), math.sin(angle))
            want[:, :, place, i], want[:, :, place, j] = point.real, point.imag
    torch.testing.assert_close(got, want, rtol=0, atol=1e-12)


def test_rotary_is_llamas():
    config = LlamaConfig(hidden_size=32, num_attention_heads=4, head_dim=8, rope_theta=500_000.0)
    q, k = drawn(2, 4, 9, 8), drawn(2, 4, 9, 8) + 1
    cos, sin = LlamaRotaryEmbedding(config)(q, positions)
    turn = rotation(spec.Rotary(config.rope_parameters["rope_theta"]), 8, positions, F64)
    for ours, theirs in zip((q, k), apply_rotary_pos_emb(q, k, cos, sin), strict=True):
        torch.testing.assert_close(rotate(ours, turn), theirs, rtol=0, atol=1e-5)  # their angles are fp32
    other = rotation(spec.Rotary(500_000.0, pairs="adjacent"), 8, positions, F64)
    assert (rotate(q, other) - apply_rotary_pos_emb(q, k, cos, sin)[0]).abs().max() > 0.1


def test_rotated_products_depend_on_the_distance_alone():
    q, k = drawn(1, 1, 1, 8).expand(1, 1, 9, 8), drawn(1, 1, 1, 8).expand(1, 1, 9, 8)
    near, far = (rotation(spec.Rotary(), 8, positions + shift, F64) for shift in (0, 1000))
    scores, later = (rotate(q, turn) @ rotate(k, turn).mT for turn in (near, far))
    torch.testing.assert_close(scores, later, rtol=0, atol=1e-10)
    assert (rotate(q, near) @ rotate(k, far).mT - scores).abs().max() > 0.1


@pytest.mark.parametrize("heads", [1, 2, 4, 6, 8, 12, 16])
def test_alibi(heads):
    """Press et al.: slopes 2^(-8/n), 2^(-16/n), ...; between powers of two, every other of the next."""

    def theirs(n: int) -> list[float]:
        if math.log2(n).is_integer():
            first = 2 ** (-(2 ** -(math.log2(n) - 3)))
            return [first * first**i for i in range(n)]
        power = 2 ** math.floor(math.log2(n))
        return theirs(power) + theirs(2 * power)[0::2][: n - power]

    assert slopes(heads) == pytest.approx(theirs(heads), rel=1e-12)
    bias = part(spec.ALiBi(), heads)(torch.arange(4, 7), torch.arange(7), "past", F64)
    for h in range(heads):
        for place in range(3):
            for m in range(7):
                assert bias[h, place, m] == pytest.approx(-slopes(heads)[h] * abs(4 + place - m), rel=1e-12)


@pytest.mark.parametrize("sees", ["past", "all"])
@pytest.mark.parametrize(("buckets", "distance"), [(32, 128), (8, 20)])
def test_relative_bias_is_t5s(sees, buckets, distance):
    module = part(spec.RelativeBias(buckets, distance), 3)
    torch.nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(2))
    queries, memory = torch.arange(100, 300), torch.arange(300)
    bucket = T5Attention._relative_position_bucket(
        memory[None] - queries[:, None],
        bidirectional=sees == "all",
        num_buckets=buckets,
        max_distance=distance,
    )
    want = module.weight[bucket].permute(2, 0, 1)
    assert torch.equal(module(queries, memory, sees, torch.float32), want)
    other = module(queries, memory, "past" if sees == "all" else "all", torch.float32)
    assert not torch.equal(other, want)


@pytest.mark.parametrize("width", [8, 7])
@pytest.mark.parametrize("layout", ["interleaved", "halves"])
def test_sinusoidal(layout, width):
    table = part(spec.Sinusoidal(layout=layout), width)(positions, 8)
    for place in range(9):
        pairs = [
            (f(place / 10_000 ** (2 * i / width)))
            for i in range(-(-width // 2))
            for f in (math.sin, math.cos)
        ]
        row = pairs if layout == "interleaved" else pairs[0::2] + pairs[1::2]
        torch.testing.assert_close(table[0, place], torch.tensor(row[:width], dtype=F64), rtol=0, atol=1e-12)


def test_learned_positions_are_rows_and_end():
    module = part(spec.Learned(9, offset=2), 4)
    torch.nn.init.normal_(module.weight)
    assert torch.equal(module(positions, 8)[0], module.weight[2:11])
    with pytest.raises(ContextLengthError, match="10 tokens, but the model has positions for 9"):
        module(torch.arange(10)[None], 9)
