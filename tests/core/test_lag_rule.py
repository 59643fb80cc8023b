"""What a stream's lag asks for, and that it is planned as a service's load is."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.core import intake, plan
from springtide.core.cluster import Cluster
from springtide.core.explain import explain
from springtide.core.lag import Behind, needed
from springtide.core.snapshot import SERVICE, STREAM
from springtide.spec import Job, Kind, Node, Pool, Range, Resources

POOL = Pool(nodes=(Node(name="a", resources=Resources(cpu=8, memory=32e9)),), scale_down_s=10.0)
amounts = st.floats(0.0, 1e9)
behinds = st.builds(Behind, lag=amounts, arriving=amounts, carries=amounts, partitions=st.integers(0, 100))


def a_stream(lag: int | None) -> tuple[Cluster, int]:
    job = Job(kind=Kind.STREAM, name="prepare", replicas=Range(1, 6), command=("x",), lag=lag)
    cluster = intake.make_cluster(POOL)
    return cluster, intake.add_job(cluster, job, 0.0)


def step(cluster: Cluster, row: int, behind: Behind, now_s: float) -> int:
    rate, _ = needed(behind, 1000)
    cluster.loads[row] = cluster.loads[row].observed(rate, now_s)
    cluster.apply(plan(cluster.snapshot(now_s)), now_s)
    return len(cluster.held[row])


@given(behinds, st.integers(1, 10**6))
def test_nobody_is_further_behind_than_he_may_be_and_arrivals_are_carried(behind: Behind, each: int) -> None:
    replicas, _ = needed(behind, each)
    if behind.partitions and replicas >= behind.partitions:
        return
    assert replicas * each >= behind.lag * (1 - 1e-9)
    assert behind.carries == 0 or replicas * behind.carries >= behind.arriving * (1 - 1e-9)


@given(behinds, st.integers(1, 10**6))
def test_no_more_than_there_are_partitions(behind: Behind, each: int) -> None:
    assert behind.partitions == 0 or needed(behind, each)[0] <= behind.partitions


@given(behinds, amounts, st.integers(1, 10**6))
def test_more_that_waits_or_arrives_never_asks_for_less(behind: Behind, more: float, each: int) -> None:
    replicas, _ = needed(behind, each)
    further = Behind(behind.lag + more, behind.arriving, behind.carries, behind.partitions)
    busier = Behind(behind.lag, behind.arriving + more, behind.carries, behind.partitions)
    assert needed(further, each)[0] >= replicas and needed(busier, each)[0] >= replicas


@pytest.mark.parametrize(
    ("behind", "replicas", "why"),
    [
        (Behind(2500.0), 2.5, "2,500 records wait, and one replica may be 1,000 behind"),
        (Behind(10.0, 900.0, 300.0), 3.0, "900 records/s arrive, and one replica carries 300"),
        (Behind(9e4, partitions=4), 4.0, "90,000 records wait, and one replica may be 1,000 behind; its 4 partitions"),
        (Behind(0.0, 50.0), 0.0, "0 records wait"),
    ],
)
def test_the_reason_has_the_numbers(behind: Behind, replicas: float, why: str) -> None:
    found, said = needed(behind, 1000)
    assert found == replicas and said.startswith(why)


def test_a_stream_without_a_lag_is_planned_as_ever() -> None:
    cluster, row = a_stream(None)
    assert cluster.column("kind")[row] == STREAM and row not in cluster.loads


def test_replicas_follow_the_lag_at_once_and_go_after_a_while() -> None:
    cluster, row = a_stream(1000)
    assert cluster.column("kind")[row] == SERVICE
    assert step(cluster, row, Behind(0.0), 0.0) == 1
    assert step(cluster, row, Behind(3500.0), 1.0) == 4
    assert step(cluster, row, Behind(10.0), 2.0) == 4
    assert step(cluster, row, Behind(10.0), 11.0) == 4
    assert step(cluster, row, Behind(10.0), 13.0) == 1
    assert step(cluster, row, Behind(1e9), 14.0) == 6


def test_what_lasting_arrivals_need_is_kept_though_nothing_waits() -> None:
    cluster, row = a_stream(1000)
    assert step(cluster, row, Behind(0.0, 590.0, 200.0), 0.0) == 3
    assert step(cluster, row, Behind(0.0, 590.0, 200.0), 1000.0) == 3


def test_it_is_explained() -> None:
    cluster, row = a_stream(1000)
    replicas, why = needed(Behind(1500.0), 1000)
    cluster.loads[row] = replace(cluster.loads[row].observed(replicas, 0.0), why=why)
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    said = "its load needs 2: 1,500 records wait, and one replica may be 1,000 behind"
    assert said in str(explain(cluster.snapshot(0.0), row))
