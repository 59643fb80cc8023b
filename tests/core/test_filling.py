"""Fixed replicas go where they strand least of what elastic work could fill."""

from __future__ import annotations

import numpy as np

from springtide.core import Cluster, filling, plan
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.resources import CPU, vector
from springtide.core.snapshot import SERVICE, TRAINING

FIVE, ONE = np.array([vector(cpu=5)]), np.ones(1)


def test_what_whole_copies_leave_is_stranded() -> None:
    free = np.array([vector(cpu=cpu) for cpu in (16, 13, 10, 4, 0)])
    assert filling.stranded(free, FIVE, ONE).round(6).tolist() == [0.2, 0.6, 0.0, 0.8, 0.0]


def test_what_another_resource_keeps_from_being_used_is_stranded_too() -> None:
    free = np.array([vector(cpu=20, memory=5)])
    assert filling.stranded(free, np.array([vector(cpu=5, memory=5)]), ONE).tolist() == [3.0]


def a_pool(trainers: int, nodes: int = 6) -> Cluster:
    pool = Cluster(make_nodes(np.array([vector(cpu=16)] * nodes)))
    pool.add("train", kind=TRAINING, request=vector(cpu=5), minimum=1, maximum=trainers, speeds=np.arange(31.0))
    return pool


def test_servers_take_places_in_pairs_beside_workers_of_five_cores() -> None:
    pool = a_pool(trainers=18)
    pool.apply(plan(pool.snapshot(0.0)), 0.0)
    pool.add("web", kind=SERVICE, request=vector(cpu=3), minimum=6, maximum=6, priority=3)
    pool.apply(plan(pool.snapshot(1.0)), 1.0)
    assert np.sort(pool.free[:, CPU]).tolist() == [0, 0, 0, 1, 1, 1]


def test_servers_that_leave_leave_pairs() -> None:
    pool = a_pool(trainers=1)
    web = pool.add("web", kind=SERVICE, request=vector(cpu=3), minimum=25, maximum=25, priority=3)
    pool.apply(plan(pool.snapshot(0.0)), 0.0)
    pool.set(web, minimum=8, maximum=8)
    pool.set(pool.rows["train"], maximum=30)
    pool.apply(plan(pool.snapshot(1.0)), 1.0)
    assert pool.column("running")[web] == 8
    assert pool.free[:, CPU].sum() <= 2


def test_without_elastic_work_that_could_grow_there_is_no_preference() -> None:
    pool = a_pool(trainers=1)
    draft = Draft(pool.snapshot(0.0))
    room = np.full(6, 5.0)
    assert filling.spread(draft, vector(cpu=3), draft.free, room, 4) == {}


def test_no_more_is_placed_than_asked_and_none_where_there_is_no_room() -> None:
    pool = a_pool(trainers=18)
    pool.apply(plan(pool.snapshot(0.0)), 0.0)
    draft = Draft(pool.snapshot(0.0))
    room = np.array([5.0, 0, 5, 0, 2, 0])
    where = filling.spread(draft, vector(cpu=3), draft.nodes.capacity, room, 7)
    assert sum(where.values()) == 7
    assert all(number <= room[node] for node, number in where.items())
