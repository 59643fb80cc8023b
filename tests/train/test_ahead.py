"""What a loader fetches before it is asked: what was said, then what follows from it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from springtide.train.ahead import Ahead, Group


def singles(step: int, *microbatches: int) -> list[Group]:
    return [((step, microbatch),) for microbatch in microbatches]


def test_what_was_said_comes_first_then_the_same_microbatches_of_the_next_steps() -> None:
    ahead = Ahead(5)
    ahead.expect([*singles(3, 5), *singles(4, 1, 2)])
    assert ahead.upcoming() == [*singles(3, 5), *singles(4, 1, 2), *singles(5, 1, 2)]
    for group in [*singles(3, 5), *singles(4, 1)]:
        ahead.asked(group)
    assert ahead.upcoming() == [*singles(4, 2), *singles(5, 1, 2), *singles(6, 1, 2)]


def test_fused_microbatches_stay_together() -> None:
    ahead = Ahead(2)
    ahead.expect([((1, 0), (1, 2))])
    assert ahead.upcoming() == [((1, 0), (1, 2)), ((2, 0), (2, 2))]


def test_what_is_skipped_is_not_fetched_any_more() -> None:
    ahead = Ahead(2)
    ahead.expect(singles(1, 0, 1, 2, 3))
    ahead.asked(((1, 2),))
    assert ahead.upcoming() == [*singles(1, 3), *singles(2, 0)]


def test_a_surprise_changes_nothing_and_a_new_word_everything() -> None:
    ahead = Ahead(2)
    ahead.expect(singles(1, 0, 1))
    ahead.asked(((9, 9),))
    assert ahead.upcoming() == singles(1, 0, 1)
    ahead.expect(singles(7, 3))
    assert ahead.upcoming() == [*singles(7, 3), *singles(8, 3)]
    ahead.expect([])
    assert ahead.upcoming() == []


@given(st.integers(1, 5), st.lists(st.integers(0, 30)))
def test_what_is_ready_stays_within_twice_the_size_and_keeps_what_is_wanted(size: int, fetched: list[int]) -> None:
    ahead = Ahead(size)
    ahead.expect(singles(1, *range(size)))
    ready: dict[Group, int] = {}
    for microbatch in fetched:
        ready[((1, microbatch),)] = 0
        wanted = [group for group in ahead.upcoming() if group in ready]
        ahead.trim(ready)
        assert len(ready) <= 2 * size
        assert all(group in ready for group in wanted)
