"""The table of who holds what where."""

from __future__ import annotations

import numpy as np

from springtide.core import Cluster
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.holdings import Holdings
from springtide.core.reasons import Reason
from springtide.core.resources import CPU, GPU, vector
from springtide.core.snapshot import BATCH, TRAINING, Slot

WHY = Reason("because")


def a_world() -> tuple[Cluster, Holdings]:
    """Two nodes; an elastic job of one GPU a replica on both, a batch of a half beside it."""
    cluster = Cluster(make_nodes(np.array([vector(cpu=8, gpu=2)] * 2)))
    elastic = cluster.add("elastic", kind=TRAINING, request=vector(cpu=2, gpu=1), minimum=1, maximum=4)
    cluster.hold(elastic, [Slot(1, 0b01), Slot(0, 0b01)])
    batch = cluster.add("batch", kind=BATCH, request=vector(cpu=1, gpu=0.5))
    cluster.hold(batch, [Slot(0, 0b10)])
    return cluster, Holdings(Draft(cluster.snapshot(0.0)))


def entries(holdings: Holdings) -> list[tuple[int, Slot]]:
    return sorted((int(row), holdings.slot(at)) for at, row in enumerate(holdings.row.tolist()))


def test_there_is_an_entry_for_each_slot() -> None:
    _, holdings = a_world()
    assert entries(holdings) == [(0, Slot(0, 1)), (0, Slot(1, 1)), (1, Slot(0, 2))]


def test_the_first_slots_of_a_job_are_its_minimum() -> None:
    _, holdings = a_world()
    surplus = [holdings.slot(at) for at in np.flatnonzero(holdings.surplus())]
    assert surplus == [Slot(0, 1)]


def test_what_is_taken_and_given_shows_at_once() -> None:
    _, holdings = a_world()
    assert len(holdings.row) == 3
    holdings.give(0, [Slot(1, 1)], WHY)
    holdings.take(1, [Slot(1, 2)], WHY)
    assert entries(holdings) == [(0, Slot(0, 1)), (1, Slot(0, 2)), (1, Slot(1, 2))]
    assert holdings.version == 2


def test_room_without_some_slots_is_what_it_would_be() -> None:
    _, holdings = a_world()
    every = np.arange(len(holdings.row))
    free, device_free = holdings.without(every)
    assert free[:, CPU].tolist() == [8, 8] and free[:, GPU].tolist() == [2, 2]
    assert device_free.tolist() == [[1, 1], [1, 1]]


def test_looking_at_room_without_slots_changes_nothing() -> None:
    cluster, holdings = a_world()
    before = cluster.free.copy(), cluster.device_free.copy()
    holdings.without(np.arange(len(holdings.row)))
    assert (holdings.draft.free == before[0]).all() and (holdings.draft.device_free == before[1]).all()


def test_shares_of_a_device_add_up_to_a_whole_one() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=8, gpu=1)])))
    for number in range(10):
        row = cluster.add(f"tenth-{number}", kind=BATCH, request=vector(gpu=0.1))
        cluster.hold(row, [Slot(0, 1)])
    holdings = Holdings(Draft(cluster.snapshot(0.0)))
    assert holdings.without(np.arange(10))[1].tolist() == [[1.0]]


def test_the_longest_that_runs_is_told_by_team_and_class() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=10)])))
    for name, left_s, priority in (("short", 10.0, 1), ("long", 30.0, 1), ("waits", 99.0, 1), ("better", 5.0, 2)):
        row = cluster.add(name, kind=BATCH, request=vector(cpu=1), remaining_s=left_s, priority=priority)
        if name != "waits":
            cluster.hold(row, [Slot(0)])
    longest = Holdings(Draft(cluster.snapshot(0.0))).longest
    assert longest.round(6).tolist() == [[-np.inf, 3.0, 0.5, -np.inf]]
