"""The Order law: which samples form which microbatch is a pure function of (fingerprint, seed, step, microbatch)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.data.order import BLOCK, Order, checksum, permute
from springtide.spec import UserError

KEYS = st.integers(0, 2**64 - 1).map(np.uint64)


def batches(order: Order, steps: range) -> np.ndarray:
    return np.concatenate([order.indices(step, m) for step in steps for m in range(order.microbatches)])


@given(st.integers(1, 3000), KEYS)
def test_the_permutation_is_a_bijection_for_any_n(n: int, key: np.uint64) -> None:
    assert sorted(permute(np.arange(n, dtype=np.uint64), n, key).tolist()) == list(range(n))


@given(st.integers(2**33, 2**62), KEYS)
def test_the_permutation_stays_inside_and_apart_for_a_large_n(n: int, key: np.uint64) -> None:
    positions = np.arange(n - 500, n, dtype=np.uint64)
    landed = permute(positions, n, key)
    assert len(set(landed.tolist())) == 500
    assert landed.max() < n


@given(st.integers(1, 400), st.integers(1, 8), st.integers(1, 4), st.integers(0, 5), st.integers(1, 4))
def test_each_sample_comes_once_per_epoch_across_the_carried_tail(
    extra: int, size: int, microbatches: int, seed: int, epochs: int
) -> None:
    batch = size * microbatches
    count = batch + extra - 1
    order = Order("data", seed, count, batch, microbatches)
    seen = batches(order, range(1, order.steps(epochs) + 1))
    assert len(seen) >= epochs * count > len(seen) - batch
    for epoch in range(epochs):
        assert sorted(seen[epoch * count : (epoch + 1) * count].tolist()) == list(range(count))


@settings(max_examples=25)
@given(st.integers(BLOCK // 2, BLOCK * 3), st.integers(1, 3000), st.data())
def test_indices_do_not_depend_on_what_was_asked_before(count: int, step: int, data: st.DataObject) -> None:
    order = Order("data", 3, count, 48, 4)
    asked = data.draw(st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 3)), max_size=5))
    for other, microbatch in asked:
        order.indices(other, microbatch)
    assert np.array_equal(order.indices(step, 1), Order("data", 3, count, 48, 4).indices(step, 1))


def test_what_is_handed_out_may_be_changed_without_harm() -> None:
    order = Order("data", 0, 100, 10, 2)
    before = order.indices(1, 0)
    order.indices(1, 0)[:] = 0
    assert np.array_equal(order.indices(1, 0), before)


def test_seeds_fingerprints_and_epochs_give_orders_of_their_own() -> None:
    first = batches(Order("data", 0, 1000, 100, 4), range(1, 21))
    assert not np.array_equal(first[:1000], first[1000:])
    assert not np.array_equal(first, batches(Order("data", 1, 1000, 100, 4), range(1, 21)))
    assert not np.array_equal(first, batches(Order("else", 0, 1000, 100, 4), range(1, 21)))


def test_the_number_of_microbatches_does_not_change_a_step() -> None:
    for microbatches in (1, 2, 8):
        order = Order("data", 0, 1000, 64, microbatches)
        assert np.array_equal(batches(order, range(4, 5)), Order("data", 0, 1000, 64, 1).indices(4, 0))


def test_the_order_looks_random() -> None:
    order = Order("data", 0, 100_003, 1000, 1).stream(0, 100_003).astype(float)
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.02
    assert abs(np.corrcoef(order, np.arange(order.size))[0, 1]) < 0.02
    small = [tuple(Order("data", seed, 4, 1, 1).stream(0, 4).tolist()) for seed in range(2400)]
    often = [small.count(each) for each in set(small)]
    assert len(often) == math.factorial(4)
    assert min(often) > 60 and max(often) < 150  # 100 each, give or take


@given(st.integers(32, 2000), st.integers(0, 200))
def test_expected_counts_and_sums_what_the_steps_hand_out(count: int, steps: int) -> None:
    order = Order("data", 1, count, 32, 4)
    seen = [order.indices(step, m) for step in range(1, steps + 1) for m in range(4)]
    total = sum(checksum(part) for part in seen) % 2**64
    assert order.expected(steps) == (32 * steps, total)
    assert sum(order.expected_of(step)[1] for step in range(1, steps + 1)) % 2**64 == total


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=50), st.randoms())
def test_the_checksum_ignores_order_and_notices_a_double(indices: list[int], random: object) -> None:
    array = np.array(indices, dtype=np.int64)
    assert checksum(array) == checksum(array[::-1])
    assert checksum(array) != checksum(np.append(array, array[:1]))


@given(st.integers(1, 10_000), st.sampled_from([0.1, 0.3, 1, 1.1, 2.5, 10]), st.integers(1, 64))
def test_steps_reach_the_epochs_and_not_one_step_more(count: int, epochs: float, batch: int) -> None:
    count += batch
    steps = Order("data", 0, count, batch, 1).steps(epochs)
    wanted = Fraction(str(epochs)) * count
    assert steps * batch >= wanted > (steps - 1) * batch


def test_an_epoch_is_told_as_a_fraction() -> None:
    assert Order("data", 0, 100, 40, 1).epoch(5) == 2.0


@given(st.integers(100, 5000), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_a_sample_is_a_fixed_part_of_the_data_whatever_the_seed(count: int, share: float) -> None:
    orders = [Order("data", seed, count, 1, 1, sample=share) for seed in (0, 1)]
    parts = [set(batches(order, range(1, 2 * order.count + 1)).tolist()) for order in orders]
    assert parts[0] == parts[1]
    assert len(parts[0]) == orders[0].count == max(1, round(Fraction(str(share)) * count))
    assert orders[0].available == count


def test_a_dataset_shorter_than_a_batch_is_told_with_both_numbers() -> None:
    with pytest.raises(UserError, match="20 samples, fewer than one batch of 32; give batch_size=20 or less"):
        Order("data", 0, 20, 32, 4)
    with pytest.raises(UserError, match=r"the sample has 10 of the dataset's 1000 samples.* 32; .*a larger sample"):
        Order("data", 0, 1000, 32, 4, sample=0.01)
    with pytest.raises(UserError, match="the dataset is empty"):
        Order("data", 0, 0, 1, 1)


@pytest.mark.parametrize("sample", [0, -1, 1.5])
def test_a_share_that_is_none_is_told(sample: float) -> None:
    with pytest.raises(UserError, match="is not a share of the data"):
        Order("data", 0, 20, 4, 4, sample=sample)


def test_a_batch_that_does_not_divide_is_told_with_one_that_does() -> None:
    with pytest.raises(UserError, match=r"microbatches=8; microbatches=6 would be, or batch_size=24"):
        Order("data", 0, 100, 30, 8)
