"""Elastic workers that move so that a blocked minimum fits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.core import Cluster, plan
from springtide.core.cluster import make_nodes
from springtide.core.plan import Plan, Verb
from springtide.core.resources import FloatArray, vector
from springtide.core.snapshot import BATCH, SERVICE, TRAINING, Slot

HALF, WHOLE = vector(cpu=1, gpu=0.5), vector(cpu=1, gpu=1)


def a_pool(*nodes: FloatArray) -> Cluster:
    names = [chr(ord("a") + n) for n in range(len(nodes))]
    return Cluster(make_nodes(np.array(nodes), names))


def passed(cluster: Cluster, now_s: float) -> Plan:
    decided = plan(cluster.snapshot(now_s))
    cluster.apply(decided, now_s)
    assert not plan(cluster.snapshot(now_s)), "a plan was not still"
    return decided


def halves(cluster: Cluster, *slots: Slot, kind: int = TRAINING, maximum: int = 2, **columns: float) -> list[int]:
    """Jobs that hold half a GPU each."""
    rows = []
    for number, slot in enumerate(slots):
        row = cluster.add(f"half-{number}", kind=kind, request=HALF, maximum=maximum, started_s=0.0, **columns)
        cluster.hold(row, [slot])
        rows.append(row)
    return rows


def two_halves(**columns: float) -> tuple[Cluster, list[int]]:
    """Two nodes of one GPU, each half taken by a job that could do with less than one more half."""
    cluster = a_pool(vector(cpu=4, gpu=1), vector(cpu=4, gpu=1))
    return cluster, halves(cluster, Slot(0, 1), Slot(1, 1), **columns)


def test_a_whole_gpu_is_made_of_two_halves() -> None:
    cluster, rows = two_halves()
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE)
    decided = passed(cluster, 10.0)
    assert len(cluster.held[nightly]) == 1
    assert [len(cluster.held[row]) for row in rows] == [1, 1]
    moves = [str(action.reason) for action in decided.actions if action.verb == Verb.MOVE]
    assert moves == ["moves to b to make a whole GPU free for nightly (experiment)"]


def test_halves_of_two_devices_of_one_node_come_together() -> None:
    cluster = a_pool(vector(cpu=4, gpu=2))
    halves(cluster, Slot(0, 1), Slot(0, 2))
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE)
    decided = passed(cluster, 10.0)
    assert len(cluster.held[nightly]) == 1
    assert "moves to other GPUs of a to make a whole GPU free for nightly (experiment)" in map(
        str, (action.reason for action in decided.actions)
    )


def test_surplus_that_stands_where_a_worker_goes_gives_way() -> None:
    cluster = a_pool(vector(cpu=4, gpu=2))
    rows = []
    for name, first, second in (("one", 1, 2), ("other", 2, 1)):
        row = cluster.add(name, kind=TRAINING, request=HALF, minimum=1, maximum=2, started_s=0.0)
        cluster.hold(row, [Slot(0, first), Slot(0, second)])
        rows.append(row)
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE)
    passed(cluster, 10.0)
    assert [len(cluster.held[row]) for row in (*rows, nightly)] == [1, 1, 1]


def test_cores_of_two_nodes_come_to_lie_on_one() -> None:
    cluster = a_pool(vector(cpu=4), vector(cpu=4))
    for number in range(2):
        row = cluster.add(f"elastic-{number}", kind=TRAINING, request=vector(cpu=2), maximum=2, started_s=0.0)
        cluster.hold(row, [Slot(number)])
    large = cluster.add("large", kind=BATCH, request=vector(cpu=4))
    passed(cluster, 10.0)
    assert len(cluster.held[large]) == 1


def test_the_awaited_room_is_named() -> None:
    cluster, rows = two_halves()
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE)
    starts = next(action for action in passed(cluster, 10.0).actions if action.job == nightly)
    assert len(starts.after) == 1 and starts.after[0] in rows


def test_a_lower_class_is_moved_and_not_preempted() -> None:
    cluster, rows = two_halves(priority=1)
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE, priority=3)
    passed(cluster, 10.0)
    assert [len(cluster.held[row]) for row in (*rows, nightly)] == [1, 1, 1]


@pytest.mark.parametrize("columns", [{"kind": BATCH}, {"priority": 2}, {"unsaved_s": 5.0}, {"maximum": 1}])
def test_what_would_lose_by_it_or_is_better_or_is_not_elastic_stays(columns: dict[str, float]) -> None:
    cluster, rows = two_halves(**columns)  # type: ignore[arg-type]
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE, priority=1)
    before = [cluster.held[row] for row in rows]
    passed(cluster, 10.0)
    assert not cluster.held[nightly]
    assert [cluster.held[row][:1] for row in rows] == before


def test_nobody_moves_where_the_claim_would_not_fit_anyway() -> None:
    cluster, _ = two_halves()
    cluster.add("nightly", kind=BATCH, request=WHOLE, minimum=2)
    assert not any(action.removed for action in passed(cluster, 10.0).actions)


def test_who_was_moved_a_moment_ago_is_not_moved_again() -> None:
    cluster, rows = two_halves(restart_s=30.0, resized_s=5.0)
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE)
    passed(cluster, 10.0)
    assert not cluster.held[nightly]
    passed(cluster, 700.0)
    assert cluster.held[nightly] and [len(cluster.held[row]) for row in rows] == [1, 1]


def test_a_replica_of_a_service_has_room_made_too() -> None:
    cluster, rows = two_halves()
    web = cluster.add("web", kind=SERVICE, request=WHOLE, minimum=2, priority=1)
    passed(cluster, 10.0)
    assert [len(cluster.held[row]) for row in (*rows, web)] == [1, 1, 1]


def test_a_worker_goes_where_its_labels_allow() -> None:
    nodes = make_nodes(np.array([vector(cpu=4, gpu=1)] * 3), labels=[{"zone": "a"}, {"zone": "b"}, {"zone": "c"}])
    cluster = Cluster(nodes)
    for number, zones in enumerate((("a", "c"), ("b",), ("c",))):
        row = cluster.add(
            f"half-{number}", kind=TRAINING, request=HALF, maximum=2, started_s=0.0, wishes={"zone": zones}
        )
        cluster.hold(row, [Slot(number, 1)])
    nightly = cluster.add("nightly", kind=BATCH, request=WHOLE)
    passed(cluster, 10.0)
    assert [cluster.held[row][0].node for row in range(4)] == [2, 1, 2, 0]
    assert nightly == 3


parts = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from([0.25, 0.5, 0.75, 1.0])), max_size=8)
claims = st.lists(st.tuples(st.sampled_from([0.5, 0.75, 1.0, 2.0]), st.integers(1, 2), st.integers(1, 2)), max_size=4)


@settings(max_examples=80, deadline=None)
@given(parts, claims, st.lists(st.booleans(), min_size=8, max_size=8))
def test_whoever_is_moved_keeps_its_minimum_and_the_plan_is_still(
    parts: list[tuple[int, int, float]], claims: list[tuple[float, int, int]], elastic: list[bool]
) -> None:
    """Shares of GPUs lie about on three nodes, and claims come for what is left of them in pieces."""
    cluster = a_pool(*[vector(cpu=8, gpu=2)] * 3)
    for number, (node, device, gpu) in enumerate(parts):
        if cluster.device_free[node, device] >= gpu - 1e-9:
            kind, more = (TRAINING, 2) if elastic[number] else (BATCH, 0)
            row = cluster.add(
                f"part-{number}", kind=kind, request=vector(cpu=1, gpu=gpu), maximum=1 + more, started_s=0.0
            )
            cluster.hold(row, [Slot(node, 1 << device)])
    before = dict(enumerate(cluster.held))
    fixed = [row for row in before if cluster.column("kind")[row] == BATCH]
    for number, (gpu, minimum, priority) in enumerate(claims):
        cluster.add(
            f"claim-{number}", kind=BATCH, request=vector(cpu=1, gpu=gpu), minimum=minimum, priority=priority,
            submitted_s=float(number),
        )  # fmt: skip
    decided = passed(cluster, 10.0)
    preempted = {action.job for action in decided.actions if "preempted" in str(action.reason)}
    assert all(cluster.held[row] for row in before if row not in preempted)
    assert all(cluster.held[row] == before[row] for row in fixed if row not in preempted)
    assert (cluster.device_free >= -1e-9).all() and (cluster.free >= -1e-9).all()
