"""What a step takes of a stream: exactly enough, in order, fair, and nothing that is forbidden."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.spec import UserError
from springtide.train import planner, stream_plan
from springtide.train.stream_plan import Supply

SPANS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=3).map(stream_plan.merged)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[int, int], Supply]:
    partitions = draw(st.lists(st.integers(0, 5), unique=True, min_size=1, max_size=4))
    bounds, offsets = {}, {}
    for partition in partitions:
        first = draw(st.integers(0, 20))
        bounds[partition] = first, first + draw(st.integers(0, 30))
        if draw(st.booleans()):
            offsets[partition] = draw(st.integers(0, bounds[partition][1]))
    return offsets, Supply(bounds, {partition: draw(SPANS) for partition in partitions})


def _records(ranges: tuple[tuple[int, int, int], ...]) -> list[tuple[int, int]]:
    return [(partition, offset) for partition, begin, end in ranges for offset in range(begin, end)]


def _free(offsets: dict[int, int], supply: Supply) -> dict[int, list[int]]:
    """Partition -> what may be taken of it, in order."""
    return {
        partition: [
            offset
            for offset in range(max(first, offsets.get(partition, 0)), end)
            if not any(low <= offset < high for low, high in supply.quarantine.get(partition, ()))
        ]
        for partition, (first, end) in supply.bounds.items()
    }


@given(worlds(), st.integers(1, 25), st.integers(1, 9))
def test_a_step_takes_what_comes_next_of_each_partition_and_leaves_no_gap(
    world: tuple[dict[int, int], Supply], count: int, turn: int
) -> None:
    offsets, supply = world
    ranges, free = stream_plan.plan_step(offsets, supply, count, turn), _free(offsets, supply)
    if ranges is None:
        assert sum(map(len, free.values())) < count
        return
    taken = _records(ranges)
    assert len(taken) == len(set(taken)) == count
    for partition, there in free.items():
        mine = [offset for p, offset in taken if p == partition]
        assert mine == there[: len(mine)]


@given(worlds(), st.integers(1, 25), st.integers(1, 9))
def test_no_partition_gives_less_than_another_but_for_want_of_records(
    world: tuple[dict[int, int], Supply], count: int, turn: int
) -> None:
    offsets, supply = world
    ranges, free = stream_plan.plan_step(offsets, supply, count, turn), _free(offsets, supply)
    if ranges is not None:
        given_ = {p: sum(end - begin for q, begin, end in ranges if q == p) for p in free}
        most = max(given_.values())
        assert all(most - given_[p] <= 1 or given_[p] == len(free[p]) for p in free)


def test_what_shares_leave_over_goes_round() -> None:
    taken = [stream_plan.shares({0: 99, 1: 99, 2: 99}, 4, turn) for turn in range(1, 4)]
    assert [sum(one[p] for one in taken) for p in range(3)] == [4, 4, 4]


@given(worlds(), st.integers(1, 7))
def test_step_after_step_every_record_is_taken_once_and_less_than_a_batch_is_left(
    world: tuple[dict[int, int], Supply], count: int
) -> None:
    begun, supply = world
    offsets, taken, step = dict(begun), list[tuple[int, int]](), 0
    while (ranges := stream_plan.plan_step(offsets, supply, count, step := step + 1)) is not None:
        taken += _records(ranges)
        offsets |= {partition: end for partition, _, end in ranges}
    free = {(p, offset) for p, there in _free(begun, supply).items() for offset in there}
    assert len(taken) == len(set(taken)) and set(taken) <= free and len(free) - len(taken) < count
    assert not stream_plan.quarantined([(p, o, o + 1) for p, o in taken], supply.quarantine)


@given(st.integers(1, 30), st.floats(0, 0.99, allow_nan=False))
def test_a_share_of_a_bulk_set_is_exact_in_the_long_run_and_even_from_step_to_step(batch: int, ratio: float) -> None:
    share = Fraction(str(ratio))
    mixed = [batch - stream_plan.records_of(step, batch, share) for step in range(1, 51)]
    assert sum(mixed) == stream_plan.bulk_before(51, batch, share) == int(50 * batch * share)
    assert max(mixed) - min(mixed) <= 1 and min(mixed) >= 0


def test_what_retention_took_is_counted() -> None:
    assert stream_plan.lost({0: 5, 1: 5, 2: 9}, Supply({0: (5, 9), 1: (8, 9), 3: (4, 9)})) == {1: 3}


def test_quarantined_offsets_are_read_from_ranges_in_any_order() -> None:
    found = planner.parse_quarantine('{"0": [[10, 20], [5, 12], [30, 30]], "7": []}', "q.json")
    assert found == {0: [(5, 20)], 7: []}


@pytest.mark.parametrize("text", ["[1]", '{"0": [1]}', '{"a": []}', "{", '{"0": [["x", 1]]}'])
def test_what_is_no_list_of_offsets_is_named(text: str) -> None:
    with pytest.raises(UserError, match=r"q\.json: this is no list of offsets"):
        planner.parse_quarantine(text, "q.json")
