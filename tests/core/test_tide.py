"""What services need: quick to rise, slow to fall, ahead of the day's pattern."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.core import Cluster, plan, tide
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.load import BINS, MONDAY_S, Load, weekly
from springtide.core.resources import vector
from springtide.core.snapshot import BATCH, SERVICE, TRAINING, Slot

DAY_S, HOUR_S = 86400.0, 3600.0


def a_service(asked: Load | None, nodes: int = 4, cpu: float = 8, **columns: float) -> tuple[Cluster, int]:
    cluster = Cluster(make_nodes(np.array([vector(cpu=cpu)] * nodes)))
    columns = {"minimum": 1, "maximum": 20, "priority": 3} | columns
    return cluster, cluster.add("web", kind=SERVICE, request=vector(cpu=1), load=asked, **columns)  # type: ignore[arg-type]


def step(cluster: Cluster, now_s: float) -> int:
    cluster.apply(plan(cluster.snapshot(now_s)), now_s)
    return len(cluster.held[cluster.rows["web"]])


def rated(cluster: Cluster, rate: float, now_s: float) -> None:
    row = cluster.rows["web"]
    cluster.loads[row] = cluster.loads[row].observed(rate, now_s)


def test_a_service_gets_what_its_load_needs_and_headroom() -> None:
    cluster, _ = a_service(Load(500.0, per_replica=50.0))
    assert step(cluster, 0.0) == 11


def test_its_own_headroom_goes_before_the_pools() -> None:
    cluster, _ = a_service(Load(500.0, per_replica=50.0, headroom=0.5))
    assert step(cluster, 0.0) == 15


@pytest.mark.parametrize(("rate", "replicas"), [(0.0, 2), (1e9, 7)])
def test_it_stays_in_its_range(rate: float, replicas: int) -> None:
    cluster, _ = a_service(Load(rate, per_replica=1.0), minimum=2, maximum=7)
    assert step(cluster, 0.0) == replicas


def test_a_rise_is_followed_in_the_same_pass_though_training_holds_everything() -> None:
    cluster, _ = a_service(Load(1.0, 1.0, headroom=0.0), nodes=1)
    cluster.add("train", kind=TRAINING, request=vector(cpu=1), maximum=8, priority=1)
    assert step(cluster, 0.0) == 1
    rated(cluster, 6.0, 1.0)
    assert step(cluster, 1.0) == 6


def test_what_is_not_needed_is_given_up_only_after_a_while() -> None:
    cluster, _ = a_service(Load(0.0, 1.0, headroom=0.0))
    rated(cluster, 6.0, 10.0)
    assert step(cluster, 10.0) == 6
    rated(cluster, 2.0, 100.0)
    assert step(cluster, 399.0) == 6
    assert step(cluster, 401.0) == 2


def test_a_short_dip_gives_nothing_up() -> None:
    cluster, _ = a_service(Load(0.0, 1.0, headroom=0.0))
    for at_s, rate in ((10.0, 6.0), (100.0, 2.0), (150.0, 6.0), (200.0, 2.0)):
        rated(cluster, rate, at_s)
        step(cluster, at_s)
    assert step(cluster, 499.0) == 6


def test_what_it_keeps_for_a_while_gives_way_to_a_minimum_at_once() -> None:
    cluster, _ = a_service(Load(0.0, 1.0, headroom=0.0), nodes=1)
    rated(cluster, 8.0, 10.0)
    step(cluster, 10.0)
    rated(cluster, 2.0, 20.0)
    row = cluster.add("batch", kind=BATCH, request=vector(cpu=4), priority=1)
    assert step(cluster, 21.0) == 4
    assert len(cluster.held[row]) == 1


def test_a_service_without_a_load_is_as_large_as_its_owner_says_at_once() -> None:
    cluster, row = a_service(None, minimum=6, maximum=6)
    assert step(cluster, 0.0) == 6
    cluster.set(row, minimum=2, maximum=2)
    assert step(cluster, 1.0) == 2


def test_whoever_holds_more_than_its_new_maximum_gives_it_up() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=8)])))
    row = cluster.add("train", kind=TRAINING, request=vector(cpu=1), maximum=8)
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    cluster.set(row, maximum=3)
    cluster.apply(plan(cluster.snapshot(1.0)), 1.0)
    assert len(cluster.held[row]) == 3


def test_replicas_are_there_before_the_load_that_was_there_yesterday() -> None:
    cluster, _ = a_service(Load(0.0, 1.0, headroom=0.0))
    for at_s in np.arange(0.0, DAY_S + 9 * HOUR_S - 600.0, 300.0):
        rated(cluster, 12.0 if 9 <= at_s % DAY_S / HOUR_S < 18 else 3.0, float(at_s))
    assert step(cluster, DAY_S + 9 * HOUR_S - 700.0) == 3
    assert step(cluster, DAY_S + 9 * HOUR_S - 500.0) == 12


def test_a_busier_day_is_expected_to_stay_busier() -> None:
    seen = Load(0.0, 1.0)
    for at_s in np.arange(0.0, DAY_S + 9 * HOUR_S, 300.0):
        usual = 10.0 if 9 <= at_s % DAY_S / HOUR_S < 18 else 4.0
        seen = seen.observed(usual * (1.5 if at_s >= DAY_S else 1.0), float(at_s))
    assert seen.soon(DAY_S + 10 * HOUR_S, DAY_S + 11 * HOUR_S) == pytest.approx(15.0, rel=0.02)


def test_a_weekend_is_known_after_a_week() -> None:
    seen = Load(0.0, 1.0)
    for at_s in np.arange(MONDAY_S, MONDAY_S + 7 * DAY_S + HOUR_S, 300.0):
        weekend = (at_s - MONDAY_S) // DAY_S % 7 >= 5
        seen = seen.observed(2.0 if weekend else 8.0, float(at_s))
    saturday_s = MONDAY_S + 12 * DAY_S + 12 * HOUR_S
    assert seen.soon(saturday_s, saturday_s) < 3.0 * seen.level


def test_a_stated_pattern_is_used_until_there_is_history() -> None:
    stated = weekly([0.25] * 12 + [1.0] * 12)
    seen = Load(0.0, 1.0, pattern=stated).observed(5.0, 6 * HOUR_S)
    assert seen.soon(15 * HOUR_S, 15 * HOUR_S) == pytest.approx(20.0)


def test_a_pattern_has_a_day_or_a_week_of_hours() -> None:
    assert len(weekly([1.0] * 24)) == len(weekly([1.0] * 168)) == BINS
    with pytest.raises(ValueError, match="a day has 24"):
        weekly([1.0] * 23)


def test_memory_stays_bounded_however_often_and_long_it_is_measured() -> None:
    seen = Load(0.0, 1.0)
    for second in range(5000):
        seen = seen.observed(10000.0 - second, float(second))
    assert len(seen.recent) <= 64
    assert len(seen.usual) == BINS


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(0.1, 400.0), st.floats(0.0, 50.0)), min_size=1, max_size=80))
def test_nothing_of_the_last_minutes_is_forgotten(steps: list[tuple[float, float]]) -> None:
    seen, now_s, rate, past = Load(0.0, 1.0), 0.0, 0.0, []
    for wait_s, new in steps:
        now_s += wait_s
        past.append((now_s, rate))
        seen, rate = seen.observed(new, now_s), new
    truth = max([rate] + [value for until_s, value in past if until_s > now_s - 300.0])
    assert seen.lately(now_s - 300.0)[0] >= truth
    assert len(seen.recent) > 20 or seen.lately(now_s - 300.0)[0] == truth


def test_whole_nodes_come_free_when_replicas_are_given_up_and_two_nodes_keep_one() -> None:
    cluster, row = a_service(None, nodes=3, minimum=6, maximum=6)
    cluster.hold(row, [Slot(node) for node in (0, 0, 0, 1, 1, 2)])
    cluster.set(row, minimum=3, maximum=3)
    draft = Draft(cluster.snapshot(0.0))
    given = tide.spare(draft, row, 3)
    left = [slot.node for slot in cluster.held[row]]
    for slot in given:
        left.remove(slot.node)
    assert sorted(left) == [0, 0, 1]


def test_replicas_on_nodes_that_are_being_emptied_go_first() -> None:
    cluster, row = a_service(None, nodes=2, minimum=4, maximum=4)
    cluster.hold(row, [Slot(node) for node in (0, 0, 1, 1)])
    cluster.nodes.alive[0] = False
    draft = Draft(cluster.snapshot(0.0))
    assert [slot.node for slot in tide.spare(draft, row, 2)] == [0, 0]


def test_the_next_fall_is_known() -> None:
    cluster, _ = a_service(Load(0.0, 1.0, headroom=0.0))
    rated(cluster, 6.0, 10.0)
    rated(cluster, 2.0, 100.0)
    assert tide.next_fall_s(cluster.snapshot(120.0)) == 400.0


def test_five_hundred_services_cost_milliseconds() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=64)] * 100)))
    seen = Load(0.0, 1.0)
    for at_s in np.arange(0.0, 2 * DAY_S, 300.0):
        seen = seen.observed(5.0, float(at_s))
    for number in range(500):
        cluster.add(f"s{number}", kind=SERVICE, request=vector(cpu=1), maximum=20, load=seen)
    snapshot = cluster.snapshot(2 * DAY_S)
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        tide.wanted(snapshot)
        took.append(time.perf_counter() - begun)
    assert min(took) < 0.05
