"""Plans rolled forward in time, and what is said of a job: forecast, deadline, explanation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from worlds import History, histories, play

from springtide.core import Cluster, forward, plan
from springtide.core.cluster import make_nodes
from springtide.core.explain import explain
from springtide.core.market import Prices
from springtide.core.resources import vector
from springtide.core.snapshot import BATCH, SERVICE, TRAINING, Teams

law = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def a_pool(*cores: float, teams: Teams | None = None, prices: Prices | None = None) -> Cluster:
    return Cluster(make_nodes(np.array([vector(cpu=n) for n in cores])), teams, prices)


def two_teams() -> Teams:
    none = np.zeros((2, 5))
    return Teams(
        ["audio", "vision"], np.array([-1, -1]), none, none + np.inf, np.ones(2), none[0, :2] + np.inf, none[0, :2]
    )


def batch(cluster: Cluster, name: str, cpu: float = 1.0, seconds: float = math.nan, **columns: float) -> int:
    return cluster.add(name, kind=BATCH, request=vector(cpu=cpu), remaining_s=seconds, **columns)  # type: ignore[arg-type]


def settled(cluster: Cluster, now_s: float = 0.0) -> None:
    cluster.apply(plan(cluster.snapshot(now_s)), now_s)


@law
@given(histories(most_events=3))
def test_applying_a_plan_is_what_the_cluster_does_and_leaves_the_snapshot_alone(history: History) -> None:
    for seen, decided, cluster in play(history):
        free = seen.free.copy()
        after = forward.apply(seen, decided)
        assert list(after.held) == list(cluster.held)
        assert np.array_equal(after.free, cluster.free)
        assert np.array_equal(seen.free, free)


@law
@given(histories(most_events=3))
def test_planning_on_the_planned_state_changes_nothing(history: History) -> None:
    for seen, decided, _ in play(history):
        assert not plan(forward.apply(seen, decided))


def test_a_job_that_fits_starts_now_and_ends_when_its_work_is_done() -> None:
    cluster = a_pool(4)
    row = batch(cluster, "a", seconds=120.0)
    seen = forward.forecast(cluster.snapshot(50.0), row)
    assert (seen.start_s, seen.finish_s) == (50.0, 170.0)
    assert str(seen) == "a starts now, finishes in 2 min 00 s"


def test_a_job_that_waits_starts_when_another_ends() -> None:
    cluster = a_pool(1)
    batch(cluster, "first", seconds=100.0)
    settled(cluster)
    row = batch(cluster, "second", seconds=30.0)
    seen = forward.forecast(cluster.snapshot(0.0), row)
    assert (seen.start_s, seen.finish_s) == (100.0, 130.0)
    assert "waits for 1 cpu" in str(seen.reason)


def test_who_shrinks_for_it_is_named() -> None:
    cluster = a_pool(4)
    cluster.add("elastic", kind=TRAINING, request=vector(cpu=1), maximum=4, remaining_s=1e6)
    settled(cluster)
    row = batch(cluster, "wide", cpu=2.0, seconds=10.0)
    assert forward.forecast(cluster.snapshot(0.0), row).shrinks == ("elastic",)


def test_work_of_unknown_length_is_guessed_and_it_is_said_so_where_another_waits_for_it() -> None:
    cluster = a_pool(1)
    first = batch(cluster, "a")
    seen = forward.forecast(cluster.snapshot(0.0), first)
    assert seen.finish_s == forward.UNKNOWN_S
    assert str(seen) == "a starts now", "its own end is a guess, and nobody is told a guess"
    settled(cluster)
    second = batch(cluster, "b", seconds=10.0)
    assert "unknown length" in str(forward.forecast(cluster.snapshot(0.0), second))


def test_a_spot_job_costs_price_times_use() -> None:
    cluster = a_pool(2, prices=Prices(floor_core=2.0))
    row = batch(cluster, "a", cpu=2.0, seconds=1800.0, priority=0, bid_core=5.0)
    assert forward.forecast(cluster.snapshot(0.0), row).cost == pytest.approx(2.0)


def test_a_forecast_that_misses_the_deadline_is_said() -> None:
    cluster = a_pool(1)
    late = batch(cluster, "late", seconds=600.0, deadline_s=300.0)
    assert forward.misses(forward.forecast(cluster.snapshot(0.0), late)) == (
        "late: its deadline is in 5 min 00 s; by this forecast it finishes 5 min 00 s later"
    )


def test_a_forecast_that_meets_the_deadline_says_nothing() -> None:
    cluster = a_pool(1)
    row = batch(cluster, "early", seconds=60.0, deadline_s=300.0)
    assert forward.misses(forward.forecast(cluster.snapshot(0.0), row)) is None


def test_a_job_that_never_fits_does_not_start() -> None:
    cluster = a_pool(1)
    row = batch(cluster, "huge", cpu=9.0)
    assert "huge does not start within" in str(forward.forecast(cluster.snapshot(0.0), row))


@law
@given(histories(most_events=2, most_jobs=5))
def test_a_forecast_changes_nothing_in_the_snapshot(history: History) -> None:
    cluster = history.cluster()
    seen, before = cluster.frozen(0.0), cluster.frozen(0.0)
    forward.forecast(seen, 0, most_passes=20)
    assert np.array_equal(seen.free, before.free)
    assert np.array_equal(seen.jobs.remaining_s, before.jobs.remaining_s, equal_nan=True)
    assert list(seen.held) == list(before.held)


def test_an_explanation_names_a_smaller_minimum_another_teams_return_a_node_and_a_time() -> None:
    cluster = a_pool(4, teams=two_teams())
    batch(cluster, "old", cpu=2.0, seconds=600.0, team=0)
    settled(cluster)
    row = batch(cluster, "new", team=1)
    cluster.set(row, minimum=3, maximum=3)
    told = explain(cluster.snapshot(0.0), row)
    assert told.sentence.startswith("new waits for 3 cpu")
    assert told.changes == (
        "with a minimum of 2 instead of 3 it would start now",
        "if team audio returned 2 cores (old) it would start",
        "with one node more like node-0 (4 cores) it would start",
        "by itself it starts in 10 min 00 s",
    )


def test_a_job_that_runs_is_explained_by_its_size() -> None:
    cluster = a_pool(4)
    row = batch(cluster, "a")
    settled(cluster)
    assert str(explain(cluster.snapshot(1.0), row)) == "a runs with 1 replica, as many as it may have"


def test_a_service_is_explained_by_its_load() -> None:
    cluster = a_pool(4)
    row = cluster.add("web", kind=SERVICE, request=vector(cpu=1), minimum=2)
    settled(cluster)
    assert "its load needs 2" in str(explain(cluster.snapshot(1.0), row))
