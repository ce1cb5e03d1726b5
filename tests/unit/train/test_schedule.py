"""The schedules against what their papers' formulas give, step by step."""

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


def test_inverse_sqrt_is_equation_3_of_2017_with_a_peak_of_1():
    width, warmup = 512, 10

    def rate(step: int) -> float:
        """lrate of Vaswani et al. (2017), equation 3; its steps begin with 1."""
        return width**-0.5 * min(step**-0.5, step * warmup**-1.5)

    found = [factor_at(spec.InverseSqrt(warmup), step, STEPS) for step in range(STEPS)]
    peak = (width * warmup) ** -0.5
    assert found == pytest.approx([rate(step + 1) / peak for step in range(STEPS)], rel=1e-12)
    assert found.index(1.0) == warmup - 1 and found[4 * warmup - 1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "plan",
    [
        spec.Cosine(warmup=0, floor=0.0),
        spec.Cosine(warmup=STEPS, floor=0.0),
        spec.Cosine(warmup=10 * STEPS),
        spec.StableDecay(warmup=0, decay=0.0),
        spec.StableDecay(warmup=0, decay=1.0),
        spec.StableDecay(warmup=STEPS, decay=1.0, floor=1.0),
        spec.InverseSqrt(warmup=1),
        spec.InverseSqrt(warmup=10),
        spec.InverseSqrt(warmup=10 * STEPS),
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
