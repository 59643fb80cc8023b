"""What is kept about services' loads between passes changes no answer."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.core.load import Load, weekly
from springtide.core.loads import Expected, Loads

PATTERN = weekly([0.2] * 8 + [1.0] * 16)
FIRST_S = 10 * 86400.0
events = st.tuples(
    st.sampled_from([0.0, 1.0, 60.0, 299.0, 301.0, 4000.0, -120.0]),  # seconds since the last
    st.sampled_from(["measure", "measure", "add", "remove", "pass"]),
    st.integers(0, 3),
    st.sampled_from([0.0, 1.0, 5.0, 9.0]),
)


def of(loads: Loads, now_s: float) -> Expected:
    return loads.expected(now_s - 300.0, now_s, now_s + 600.0)


def same(one: Expected, other: Expected) -> bool:
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(events, max_size=25))
def test_a_table_that_was_kept_says_what_a_new_one_says(history: list[tuple[float, str, int, float]]) -> None:
    loads, now_s = Loads(), FIRST_S
    for wait_s, what, row, rate in history:
        now_s += wait_s
        if what == "measure" and row in loads:
            loads[row] = loads[row].observed(rate, now_s)
        elif what == "add":
            loads[row] = Load(rate=rate, per_replica=1.0 + row, headroom=None if row else 0.2, pattern=PATTERN)
        elif what == "remove":
            loads.pop(row, None)
        assert same(of(loads, now_s), of(Loads(loads), now_s))
        assert same(of(loads.own(), now_s), of(loads, now_s))


def test_a_mapping_of_its_own_does_not_follow() -> None:
    loads = Loads({3: Load(rate=1.0, per_replica=1.0)})
    before = loads.own()
    loads[3] = Load(rate=2.0, per_replica=1.0)
    assert of(before, FIRST_S).rate.tolist() == [1.0] and of(loads, FIRST_S).rate.tolist() == [2.0]


def test_no_services_expect_nothing() -> None:
    assert len(of(Loads(), FIRST_S).rows) == 0
