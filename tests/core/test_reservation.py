"""Where and when the oldest blocked job could start, and what others may have there until then."""

from __future__ import annotations

import math

import numpy as np
import pytest

from springtide.core import Cluster, claims, plan, reservation
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.holdings import Holdings
from springtide.core.reservation import Reservation
from springtide.core.resources import vector
from springtide.core.snapshot import BATCH, TRAINING, Slot

NOTHING = np.zeros(0, dtype=np.int64)


class World:
    """Nodes of 4 cores on which jobs of so many cores run for so long yet."""

    def __init__(self, *nodes: list[tuple[float, float]]) -> None:
        self.cluster = Cluster(make_nodes(np.array([vector(cpu=4)] * len(nodes))))
        for node, jobs in enumerate(nodes):
            for number, (cpu, left_s) in enumerate(jobs):
                row = self.cluster.add(f"{node}-{number}", kind=BATCH, request=vector(cpu=cpu), remaining_s=left_s)
                self.cluster.hold(row, [Slot(node)])

    def reserve(self, cpu: float, replicas: int = 1) -> Reservation | None:
        row = self.cluster.add("large", kind=BATCH, request=vector(cpu=cpu), minimum=replicas)
        self.draft = Draft(self.cluster.snapshot(100.0))
        return reservation.reserve(Holdings(self.draft), claims.claim_of(self.draft, row), NOTHING)

    def most(self, held: Reservation, cpu: float, left_s: float = math.nan) -> list[float]:
        """Replicas of another job that may start on each node."""
        row = self.cluster.add("other", kind=BATCH, request=vector(cpu=cpu), remaining_s=left_s)
        draft = Draft(self.cluster.snapshot(100.0))
        most = held.most(draft, row, draft.request(row))
        return [math.inf] * len(self.cluster.nodes.names) if most is None else most.tolist()


def test_it_stands_where_the_job_could_start_soonest() -> None:
    held = World([(4, 500.0)], [(4, 60.0)]).reserve(4)
    assert held is not None and (held.start_s, held.where) == (160.0, {1: 1})


def test_it_begins_when_the_last_of_those_has_ended_that_are_in_the_way() -> None:
    held = World([(1, 20.0), (2, 60.0), (1, 500.0)]).reserve(3)
    assert held is not None and held.start_s == 160.0


def test_replicas_may_be_reserved_on_several_nodes() -> None:
    held = World([(4, 60.0)], [(4, 30.0)], [(4, 500.0)]).reserve(2, replicas=3)
    assert held is not None and held.start_s == 160.0 and sum(held.where.values()) == 3
    assert set(held.where) == {0, 1}


def test_nobody_knows_when_it_begins_where_ends_are_not_known() -> None:
    held = World([(4, math.nan)]).reserve(4)
    assert held is not None and held.start_s == math.inf


def test_there_is_none_for_what_never_fits() -> None:
    assert World([(4, 60.0)]).reserve(5) is None


@pytest.mark.parametrize(("left_s", "most"), [(60.0, [math.inf]), (61.0, [0.0]), (math.nan, [0.0])])
def test_who_ends_before_it_begins_may_start_there(left_s: float, most: list[float]) -> None:
    world = World([(2, 60.0)])
    held = world.reserve(4)
    assert held is not None and world.most(held, cpu=1, left_s=left_s) == most


def test_what_fits_beside_the_job_may_start_there() -> None:
    world = World([(2, 60.0)], [])
    held = Reservation(0, 160.0, {0: 1}, np.array([vector(cpu=1)]), np.zeros((1, 0)))
    assert world.most(held, cpu=1) == [1.0, math.inf]


def test_nothing_starts_on_its_nodes_while_its_beginning_is_not_known() -> None:
    world = World([(2, math.nan)], [])
    held = Reservation(0, math.inf, {0: 1}, np.array([vector(cpu=2)]), np.zeros((1, 0)))
    assert world.most(held, cpu=1, left_s=1.0) == [0.0, math.inf]


def test_surplus_is_not_counted_on_when_an_end_is_foreseen() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=4)])))
    row = cluster.add("elastic", kind=TRAINING, request=vector(cpu=1), minimum=1, maximum=4, remaining_s=60.0)
    cluster.hold(row, [Slot(0)] * 4)
    ends = reservation.end_s(Draft(cluster.snapshot(100.0)), np.array([row]))
    assert ends.tolist() == [160.0]


def test_what_started_beside_it_leaves_less_for_others() -> None:
    world = World([(2, 60.0)], [])
    held = Reservation(0, 160.0, {0: 1}, np.array([vector(cpu=1)]), np.zeros((1, 0)))
    row = world.cluster.add("beside", kind=BATCH, request=vector(cpu=1), remaining_s=math.nan)
    draft = Draft(world.cluster.snapshot(100.0))
    assert world.most(held.beside(draft, row, [Slot(1)]), cpu=1) == [1.0, math.inf]
    assert world.most(held.beside(draft, row, [Slot(0)]), cpu=1) == [0.0, math.inf]


def test_of_two_that_would_fit_beside_the_oldest_only_one_starts() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=4)])))
    running = cluster.add("runs", kind=BATCH, request=vector(cpu=2), remaining_s=60.0, submitted_s=-2.0)
    cluster.hold(running, [Slot(0)])
    cluster.add("large", kind=BATCH, request=vector(cpu=3), remaining_s=500.0, submitted_s=-1.0)
    rows = [cluster.add(f"small-{n}", kind=BATCH, request=vector(cpu=1), remaining_s=900.0) for n in range(2)]
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    assert sorted(len(cluster.held[row]) for row in rows) == [0, 1]
