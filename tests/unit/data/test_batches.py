"""The order of training examples: complete, repeatable, seekable, shared out without overlap."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.data.batches import Batches, evaluation_windows, permute
from cutaway.errors import ConfigError, LimitError

sizes = st.integers(1, 2_000)
seeds = st.integers(0, 2**64 - 1)


@settings(max_examples=300)
@given(size=sizes, key=seeds)
def test_a_permutation_visits_every_place_once(size, key):
    places = permute(np.arange(size), size, np.full(size, key, np.uint64))
    assert sorted(places.tolist()) == list(range(size))


def test_permutations_differ_by_key_and_mix_well():
    """Over many keys each place goes to each other equally often: chi-square with 99 degrees of freedom."""
    size, keys = 100, 4_000
    found = np.zeros((size, size))
    for key in range(keys):
        found[np.arange(size), permute(np.arange(size), size, np.full(size, key, np.uint64))] += 1
    expected = keys / size
    chi_square = ((found - expected) ** 2 / expected).sum(axis=1)
    assert chi_square.max() < 180 and 85 < chi_square.mean() < 115


def whole_epoch(batches: Batches, epoch: int) -> list[int]:
    """The starts of the windows of one epoch: a batch as large as an epoch is one."""
    one_step = Batches(batches.tokens, batches.length, batches.windows, batches.seed)
    return one_step.starts_at(epoch).tolist()


@settings(max_examples=200)
@given(length=st.integers(1, 40), extra=sizes, seed=seeds, epoch=st.integers(0, 10**6))
def test_every_window_once_an_epoch(length, extra, seed, epoch):
    batches = Batches(np.zeros(length + extra, np.uint8), length, 1, seed)
    starts = sorted(whole_epoch(batches, epoch))
    assert starts[0] >= 0 and starts[-1] + 1 <= extra
    assert (np.diff(starts) == length).all() and len(starts) == batches.windows
    # what an epoch leaves unseen is less than two windows
    assert extra + length - (batches.windows * length + 1) < 2 * length


@settings(max_examples=50)
@given(count=st.integers(20, 500), length=st.integers(1, 19), batch=st.integers(1, 24), seed=seeds)
def test_steps_go_on_where_the_last_ended_whatever_the_batch(count, length, batch, seed):
    """Batches are consecutive cuts of one endless order, so a change of batch size keeps it."""
    tokens = np.arange(count, dtype=np.uint16)
    single, many = Batches(tokens, length, 1, seed), Batches(tokens, length, batch, seed)
    for step in (0, 1, 7, 10**6):
        expected = np.concatenate([single.batch_at(step * batch + row) for row in range(batch)])
        assert np.array_equal(many.batch_at(step), expected)


@settings(max_examples=60)
@given(parts=st.sampled_from([1, 2, 3, 4, 6, 12]), step=st.integers(0, 10**12), seed=seeds)
def test_rows_are_those_of_the_whole_batch(parts, step, seed):
    batches, share = Batches(np.arange(1_000, dtype=np.uint16), 8, 12, seed), 12 // parts
    parts = [batches.batch_at(step, slice(first, first + share)) for first in range(0, 12, share)]
    assert np.array_equal(np.concatenate(parts), batches.batch_at(step))


def test_a_window_is_consecutive_tokens_and_named_by_its_start():
    batches = Batches(np.arange(100, 1_000, dtype=np.uint16), 16, 5, 3)
    ids = batches.batch_at(9)
    assert ids.dtype == np.int64 and ids.shape == (5, 17)
    assert np.array_equal(ids, ids[:, :1] + np.arange(17))
    assert (ids[:, 0] - 100).tolist() == batches.example_ids(9)


def test_order_depends_on_seed_epoch_and_nothing_else():
    def first(seed: int, epoch: int) -> list[int]:
        return whole_epoch(Batches(np.zeros(5_000, np.uint8), 50, 4, seed), epoch)

    assert first(1, 0) == first(1, 0)
    orders = [first(seed, epoch) for seed in (1, 2) for epoch in range(4)]
    assert len({tuple(order) for order in orders}) == 8
    assert len({order[0] % 50 for order in orders}) > 3  # the cut moves from epoch to epoch


def test_every_token_is_a_target_sooner_or_later():
    tokens = np.arange(75, dtype=np.uint8)
    batches = Batches(tokens, 10, 6, 0)
    seen = np.concatenate([batches.batch_at(step)[:, 1:].ravel() for step in range(200)])
    assert set(seen.tolist()) == set(range(1, 75))


def test_seeking_takes_no_time_at_a_billion_windows():
    batches = Batches(np.broadcast_to(np.uint8(0), (10**11,)), 100, 64, 1)
    batches.starts_at(0)
    started = time.perf_counter()
    starts = batches.starts_at(10**12 + 1)
    assert time.perf_counter() - started < 0.05
    assert len(set(starts.tolist())) == 64


def test_exactly_enough_tokens_and_one_too_few():
    assert Batches(np.arange(9), 8, 2, 0).batch_at(5).tolist() == [list(range(9))] * 2
    with pytest.raises(LimitError, match="8 tokens, but windows of length 8 need at least 9"):
        Batches(np.arange(8), 8, 2, 0)
    with pytest.raises(ConfigError, match="at least 1"):
        Batches(np.arange(8), 0, 2, 0)


@settings(max_examples=300)
@given(count=st.integers(2, 300), length=st.integers(1, 70), batch=st.integers(1, 9))
def test_an_evaluation_scores_every_token_after_the_first_once(count, length, batch):
    tokens = np.arange(count, dtype=np.uint16)
    parts = list(evaluation_windows(tokens, length, batch))
    assert [target for _, targets in parts for target in targets.ravel()] == list(range(1, count))
    for inputs, targets in parts:
        assert inputs.dtype == targets.dtype == np.int64 and inputs.shape == targets.shape
        assert inputs.shape[0] <= batch and inputs.shape[1] <= length
        assert np.array_equal(inputs + 1, targets)
    assert all(inputs.shape[1] == length for inputs, _ in parts[:-1])


def test_an_evaluation_needs_two_tokens():
    for count in (0, 1):
        with pytest.raises(LimitError, match="needs at least 2"):
            list(evaluation_windows(np.arange(count), 4, 4))
