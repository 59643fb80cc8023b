"""The columns between passes: rows come and go, what is held is booked, node by node and device by device."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.core import Cluster, plan
from springtide.core.cluster import make_nodes
from springtide.core.resources import CPU, GPU, vector
from springtide.core.snapshot import BATCH, GONE, Slot


def a_cluster(nodes: int = 2) -> Cluster:
    return Cluster(make_nodes(np.array([vector(cpu=8, memory=100, gpu=2)] * nodes)))


def test_a_held_slot_is_booked_on_its_node_and_device_and_free_again_after_release() -> None:
    cluster = a_cluster()
    row = cluster.add("a", kind=BATCH, request=vector(cpu=3, gpu=0.5))
    cluster.hold(row, [Slot(1, 0b10)])
    assert cluster.free[1, CPU] == 5
    assert cluster.device_free[1].tolist() == [1.0, 0.5]
    assert cluster.free[1, GPU] == 1.5
    cluster.release(row, [Slot(1, 0b10)])
    assert (cluster.free == cluster.nodes.capacity).all()


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7, 0.25]), min_size=1, max_size=30), st.randoms())
def test_shares_of_a_device_add_up_to_a_whole_one_in_any_order(shares: list[float], random: object) -> None:
    cluster = a_cluster(1)
    rows = [cluster.add(f"j{k}", kind=BATCH, request=vector(gpu=share)) for k, share in enumerate(shares)]
    for row in rows:
        cluster.hold(row, [Slot(0, 1)])
    random.shuffle(rows)  # type: ignore[attr-defined]
    for row in rows:
        cluster.release(row, [Slot(0, 1)])
    assert cluster.device_free[0, 0] == 1.0


def test_a_row_is_used_again_and_holds_nothing_of_the_job_before() -> None:
    cluster = a_cluster()
    first = cluster.add("a", kind=BATCH, request=vector(cpu=1), submitted_s=7.0, bid_core=3.0)
    cluster.set(first, suspended_s=5.0)
    cluster.remove(first)
    assert cluster.snapshot(0.0).jobs.kind[first] == GONE
    second = cluster.add("b", kind=BATCH, request=vector(cpu=1))
    assert second == first
    jobs = cluster.snapshot(0.0).jobs
    assert (jobs.submitted_s[second], jobs.bid_core[second], jobs.suspended_s[second]) == (0.0, 0.0, -np.inf)


def test_many_jobs_are_kept_whatever_the_columns_had_room_for() -> None:
    cluster = a_cluster()
    rows = [cluster.add(f"j{k}", kind=BATCH, request=vector(cpu=1), submitted_s=float(k)) for k in range(300)]
    assert cluster.snapshot(0.0).jobs.submitted_s[rows].tolist() == [float(k) for k in range(300)]
    assert len(cluster.snapshot(0.0).live()) == 300


def test_jobs_of_one_shape_share_it_and_are_counted_as_seen() -> None:
    cluster = a_cluster()
    for k in range(3):
        cluster.add(f"j{k}", kind=BATCH, request=vector(cpu=1), minimum=2)
    cluster.add("other", kind=BATCH, request=vector(cpu=1), wishes={"gpu": ("a", "b")})
    shapes = cluster.snapshot(0.0).shapes
    assert shapes.seen.tolist() == [6, 1]
    assert shapes.wishes[1] == {"gpu": ("a", "b")}


def test_a_lost_node_takes_what_ran_there_with_it_and_comes_back_empty() -> None:
    cluster = a_cluster()
    row = cluster.add("a", kind=BATCH, request=vector(cpu=1, gpu=1), minimum=2)
    cluster.hold(row, [Slot(0, 1), Slot(1, 1)])
    assert cluster.lose_node(0) == {row: (Slot(0, 1),)}
    assert cluster.held[row] == (Slot(1, 1),)
    assert cluster.free[0].sum() == 0
    cluster.return_node(0)
    assert (cluster.free[0] == cluster.nodes.capacity[0]).all()
    assert cluster.device_free[0].tolist() == [1.0, 1.0]


def test_a_frozen_snapshot_outlives_changes() -> None:
    cluster = a_cluster()
    row = cluster.add("a", kind=BATCH, request=vector(cpu=1))
    before = cluster.frozen(0.0)
    cluster.apply(plan(before), 0.0)
    assert cluster.snapshot(0.0).jobs.running[row] == 1
    assert before.jobs.running[row] == 0
    assert (before.free == before.nodes.capacity).all()


def test_a_column_that_does_not_exist_is_refused() -> None:
    with pytest.raises(AssertionError, match="no such columns"):
        a_cluster().add("a", kind=BATCH, request=vector(cpu=1), submited_s=1.0)


def test_the_mix_of_arrivals_is_of_what_a_node_could_hold() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=8, gpu=4)])))
    cluster.add("half", kind=BATCH, request=vector(cpu=1, gpu=0.5))
    cluster.add("too-large", kind=BATCH, request=vector(cpu=1, gpu=8))
    assert not cluster.snapshot(0.0).shapes.mix.mixed
