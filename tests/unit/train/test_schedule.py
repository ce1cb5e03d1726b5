"""Both schedules against what their papers' formulas give, step by step."""

import math

import pytest

from cutaway import spec
from cutaway.errors import ConfigError
from cutaway.train.schedule import factor_at

STEPS = 50


def test_cosine_rises_linearly_and_falls_by_half_a_wave():
    plan = spec.Cosine(warmup=10, floor=0.2)
    for step in range(10):
        assert factor_at(plan, step, STEPS) == pytest.approx((step + 1) / 10, abs=1e-15)
    for step in range(10, STEPS):
        wave = math.cos(math.pi * (step - 10) / (STEPS - 10))
        assert factor_at(plan, step, STEPS) == pytest.approx(0.6 + 0.4 * wave, abs=1e-12)
    assert factor_at(plan, 10, STEPS) == 1.0
    assert factor_at(plan, STEPS, STEPS) == pytest.approx(0.2)


def test_stable_decay_is_flat_and_then_linear():
    plan = spec.StableDecay(warmup=5, decay=0.4, floor=0.1)
    found = [factor_at(plan, step, STEPS) for step in range(STEPS)]
    assert found[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert found[5:31] == [1.0] * 26
    assert found[30:] == pytest.approx([0.1 + 0.9 * (STEPS - step) / 20 for step in range(30, STEPS)])


@pytest.mark.parametrize(
    "plan",
    [
        spec.Cosine(warmup=0, floor=0.0),
        spec.Cosine(warmup=STEPS, floor=0.0),
        spec.Cosine(warmup=10 * STEPS),
        spec.StableDecay(warmup=0, decay=0.0),
        spec.StableDecay(warmup=0, decay=1.0),
        spec.StableDecay(warmup=STEPS, decay=1.0, floor=1.0),
    ],
    ids=repr,
)
@pytest.mark.parametrize("steps", [1, 2, STEPS])
def test_every_factor_lies_between_0_and_1_and_no_step_is_lost(plan, steps):
    found = [factor_at(plan, step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in found)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ConfigError, match="StableDecay and InverseSqrt"):
        factor_at(spec.Schedule(), 0, 1)
