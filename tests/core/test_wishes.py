"""Preferred labels, and replicas that are to be spread or packed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from springtide.core import Cluster, plan
from springtide.core.cluster import make_nodes
from springtide.core.load import Load
from springtide.core.resources import vector
from springtide.core.snapshot import BATCH, PACK, SERVICE, SPREAD, TRAINING

ONE = vector(cpu=1)
IN_B = {"zone": ("b",)}


def a_pool(*zones: str, cpu: float = 4, gpu: float = 0) -> Cluster:
    return Cluster(make_nodes(np.array([vector(cpu=cpu, gpu=gpu)] * len(zones)), labels=[{"zone": z} for z in zones]))


def passed(cluster: Cluster, now_s: float = 0.0) -> None:
    cluster.apply(plan(cluster.snapshot(now_s)), now_s)


def where(cluster: Cluster, row: int) -> list[int]:
    """Replicas on each node."""
    count = Counter(slot.node for slot in cluster.held[row])
    return [count[node] for node in range(len(cluster.nodes.names))]


def test_of_free_nodes_a_preferred_one_is_taken() -> None:
    cluster = a_pool("a", "b")
    row = cluster.add("job", kind=BATCH, request=ONE, prefers=IN_B)
    passed(cluster)
    assert where(cluster, row) == [0, 1]


def test_a_preferred_gpu_is_taken_though_another_fits_tighter() -> None:
    cluster = a_pool("a", "b", gpu=2)
    for name, gpu in (("first", 0.5), ("second", 1.0)):
        cluster.add(name, kind=BATCH, request=vector(gpu=gpu), wishes={"zone": ("a",)})
    passed(cluster)
    row = cluster.add("job", kind=BATCH, request=vector(gpu=0.5), prefers=IN_B)
    passed(cluster)
    assert where(cluster, row) == [0, 1]


def test_who_prefers_a_full_node_starts_on_another() -> None:
    cluster = a_pool("a", "b")
    full = cluster.add("full", kind=BATCH, request=vector(cpu=3), wishes=IN_B)
    passed(cluster)
    row = cluster.add("job", kind=BATCH, request=ONE, minimum=3, prefers=IN_B, priority=3)
    passed(cluster)
    assert where(cluster, full) == [0, 1] and where(cluster, row) == [2, 1]


def test_nobody_gives_way_for_a_preference() -> None:
    cluster = a_pool("a", "b")
    elastic = cluster.add("elastic", kind=TRAINING, request=ONE, minimum=1, maximum=4, wishes=IN_B)
    passed(cluster)
    row = cluster.add("job", kind=BATCH, request=ONE, prefers=IN_B, priority=3)
    passed(cluster)
    assert where(cluster, elastic) == [0, 4] and where(cluster, row) == [1, 0]


def test_who_runs_elsewhere_is_not_moved_when_a_preferred_node_comes_free() -> None:
    cluster = a_pool("a", "b")
    full = cluster.add("full", kind=BATCH, request=vector(cpu=4), wishes=IN_B)
    row = cluster.add("job", kind=BATCH, request=ONE, prefers=IN_B)
    passed(cluster)
    cluster.remove(full)
    assert not plan(cluster.snapshot(1.0))
    assert where(cluster, row) == [1, 0]


def test_of_two_preferred_labels_both_are_better_than_one() -> None:
    labels = [{"zone": "b"}, {"disk": "fast", "zone": "b"}, {"disk": "fast"}]
    cluster = Cluster(make_nodes(np.array([ONE] * 3), labels=labels))
    row = cluster.add("job", kind=BATCH, request=ONE, prefers=IN_B | {"disk": ("fast",)})
    passed(cluster)
    assert where(cluster, row) == [0, 1, 0]


@pytest.mark.parametrize(("arrange", "expected"), [(SPREAD, [2, 2, 2]), (PACK, [4, 2, 0])])
def test_replicas_are_arranged_as_asked(arrange: int, expected: list[int]) -> None:
    cluster = a_pool("a", "a", "a")
    row = cluster.add("web", kind=SERVICE, request=ONE, minimum=6, arrange=arrange)
    passed(cluster)
    assert sorted(where(cluster, row), reverse=True) == expected


@pytest.mark.parametrize(("arrange", "expected"), [(SPREAD, [2, 1, 1]), (PACK, [4, 0, 0])])
def test_a_service_that_grows_keeps_its_arrangement(arrange: int, expected: list[int]) -> None:
    cluster = a_pool("a", "a", "a")
    load = Load(rate=2.0, per_replica=1.0, headroom=0.0)
    row = cluster.add("web", kind=SERVICE, request=ONE, minimum=1, maximum=9, load=load, arrange=arrange)
    passed(cluster)
    cluster.loads[row] = Load(rate=4.0, per_replica=1.0, headroom=0.0)
    passed(cluster)
    assert sorted(where(cluster, row), reverse=True) == expected


@pytest.mark.parametrize(("arrange", "expected"), [(SPREAD, [1, 1, 1]), (PACK, [3, 0, 0])])
def test_a_service_that_shrinks_keeps_its_arrangement(arrange: int, expected: list[int]) -> None:
    cluster = a_pool("a", "a", "a")
    row = cluster.add("web", kind=SERVICE, request=ONE, minimum=6, maximum=9, arrange=arrange)
    passed(cluster)
    cluster.set(row, minimum=3)
    passed(cluster)
    assert sorted(where(cluster, row), reverse=True) == expected


def test_replicas_for_which_others_give_way_are_spread() -> None:
    cluster = a_pool("a", "a")
    cluster.add("elastic", kind=TRAINING, request=ONE, minimum=1, maximum=8)
    passed(cluster)
    row = cluster.add("web", kind=SERVICE, request=ONE, minimum=4, priority=3, arrange=SPREAD)
    passed(cluster)
    assert where(cluster, row) == [2, 2]


def test_many_services_that_come_at_once_are_spread_each() -> None:
    cluster = a_pool(*"aaaa", cpu=100)
    rows = [cluster.add(f"web-{n}", kind=SERVICE, request=ONE, minimum=4, arrange=SPREAD) for n in range(80)]
    passed(cluster)
    assert all(where(cluster, row) == [1, 1, 1, 1] for row in rows)


def test_packed_replicas_that_no_node_holds_begin_where_most_go() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=2), vector(cpu=5), vector(cpu=3)])))
    row = cluster.add("web", kind=SERVICE, request=ONE, minimum=7, arrange=PACK)
    passed(cluster)
    assert where(cluster, row) == [2, 5, 0]
