"""Stretched rotations, held against their formulas and against transformers' own."""

import math

import pytest
import torch
from transformers import LlamaConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.nn.position import rotation, stretched
from cutaway.spec.check import check_model
from cutaway.spec.read import read_model
from cutaway.spec.write import write_model

F64 = torch.float64
BY_PARTS = spec.ByParts(8.0, 1.0, 4.0, 64)
SPEED = 500.0 ** (-torch.arange(0, 16, 2, dtype=F64) / 16)


def test_each_pair_by_its_number_of_turns():
    found = stretched(SPEED, BY_PARTS)
    kinds = set()
    for speed, got in zip(SPEED.tolist(), found.tolist(), strict=True):
        turns = 64 * speed / (2 * math.pi)
        if turns < 1:
            kinds.add("slow")
            want = speed / 8
        elif turns > 4:
            kinds.add("fast")
            want = speed
        else:
            kinds.add("between")
            share = (turns - 1) / 3
            want = share * speed + (1 - share) * speed / 8
        assert math.isclose(got, want, rel_tol=1e-14)
    assert kinds == {"slow", "fast", "between"}


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (spec.Interpolated(4.0), {"rope_type": "linear", "factor": 4.0}),
        (
            BY_PARTS,
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
            | {"original_max_position_embeddings": 64},
        ),
    ],
)  # fmt: skip
def test_angles_are_those_of_transformers(plan, said):
    config = LlamaConfig(hidden_size=64, num_attention_heads=4, rope_parameters={**said, "rope_theta": 500.0})
    speed, factor = ROPE_INIT_FUNCTIONS[said["rope_type"]](config, "cpu")
    assert factor == 1.0
    positions = torch.tensor([[0, 1, 7, 100]])
    turn = rotation(spec.Rotary(500.0, scaling=plan), 16, positions, F64)
    angle = positions[..., None] * speed.double()
    assert (turn.cos[:, 0] - angle.cos()).abs().max() < 1e-5  # theirs are of float32
    plain = rotation(spec.Rotary(500.0), 16, positions, F64)
    assert (turn.cos - plain.cos).abs().max() > 0.1


def test_a_stretch_is_part_of_the_spec():
    plan = spec.llama3(2, 16, 4, 2, 24, 13)
    block = plan.stack.blocks[0]
    attend = spec.Attention(4, 2, rotary=spec.Rotary(500.0, scaling=BY_PARTS))
    stack = spec.Stack(2, (spec.Block(attend, block.ffn, block.norm),), "past", final_norm=block.norm)
    made = spec.Single(16, plan.input, stack, plan.head)
    assert read_model(write_model(made)) == made
    assert "scaling" not in str(write_model(plan))
    wrong = spec.Attention(4, 2, rotary=spec.Rotary(scaling=spec.ByParts(8.0, 4.0, 4.0, 64)))
    with pytest.raises(ConfigError, match=r"rotary\.scaling\.low: 4\.0 must be less than high"):
        check_model(
            spec.Single(
                16, plan.input, spec.Stack(1, (spec.Block(wrong, None, block.norm),), "past"), plan.head
            )
        )


def test_a_stretch_nobody_computes_is_refused():
    class Yarn(spec.Stretch):
        pass

    with pytest.raises(ConfigError, match="Yarn: no such stretch"):
        stretched(SPEED, Yarn())
