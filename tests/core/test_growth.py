"""Surplus goes where it is worth most, and changes hands only where that pays."""

import math

import numpy as np

from springtide.core import Cluster, plan
from springtide.core.cluster import make_nodes
from springtide.core.resources import FloatArray, vector
from springtide.core.settings import Settings
from springtide.core.snapshot import TRAINING, Slot

LINEAR = np.arange(9.0)
NEVER_TWO = np.array([0.0, 1.0, 1.0, 1.0, 4.0])  # useful sizes are 1 and 4


def pool(*gpus: int) -> Cluster:
    return Cluster(make_nodes(np.array([vector(gpu=count) for count in gpus])))


def add(cluster: Cluster, name: str, speeds: FloatArray = LINEAR, left_s: float = 1000.0, **columns: float) -> int:
    maximum = len(speeds) - 1
    return cluster.add(
        name, kind=TRAINING, request=vector(gpu=1), maximum=maximum, speeds=speeds, remaining_s=left_s, **columns
    )


def sizes(cluster: Cluster, now_s: float = 0.0) -> dict[str, int]:
    cluster.apply(plan(cluster.snapshot(now_s)), now_s)
    return {name: len(cluster.held[row]) for name, row in cluster.rows.items()}


def nodes_of(cluster: Cluster, name: str) -> set[int]:
    return {slot.node for slot in cluster.held[cluster.rows[name]]}


def test_one_job_alone_takes_all_that_makes_it_faster() -> None:
    cluster = pool(4, 4)
    add(cluster, "a")
    assert sizes(cluster) == {"a": 8}


def test_a_size_that_is_no_faster_is_not_given() -> None:
    cluster = pool(3)
    add(cluster, "a", NEVER_TWO)
    assert sizes(cluster) == {"a": 1}


def test_the_shorter_rest_gets_more() -> None:
    cluster = pool(8)
    speeds = np.arange(9.0) ** 0.5
    add(cluster, "short", speeds, left_s=100.0)
    add(cluster, "long", speeds, left_s=10000.0)
    got = sizes(cluster)
    assert got["short"] > got["long"] >= 1


def test_a_newcomer_gets_more_than_its_minimum_from_an_equal_that_has_much() -> None:
    cluster = pool(8)
    add(cluster, "old", np.arange(9.0) ** 0.5)
    assert sizes(cluster) == {"old": 8}
    add(cluster, "new", np.arange(9.0) ** 0.5)
    assert sizes(cluster, 100.0)["new"] >= 3


def test_nobody_is_resized_when_restarting_costs_more_than_it_brings() -> None:
    cluster = pool(8)
    add(cluster, "old", np.arange(9.0) ** 0.5, restart_s=30.0)
    sizes(cluster)
    cluster.remove(add(cluster, "gone"))
    row = cluster.rows["old"]
    cluster.release(row, cluster.held[row][-1:])
    cluster.set(row, remaining_s=20.0)
    assert sizes(cluster, 100.0) == {"old": 7}


def test_free_room_is_taken_though_restarting_costs_something() -> None:
    cluster = pool(8)
    row = add(cluster, "old", restart_s=30.0)
    sizes(cluster)
    cluster.release(row, cluster.held[row][4:])
    cluster.set(row, remaining_s=100000.0)
    assert sizes(cluster, 100.0) == {"old": 8}


def test_a_job_that_grows_moves_to_the_node_that_holds_it_whole() -> None:
    cluster = pool(2, 4)
    add(cluster, "b", np.arange(3.0))
    first = add(cluster, "a", np.arange(5.0))
    cluster.hold(first, [Slot(0, 1)])
    cluster.remove(cluster.rows["b"])
    assert sizes(cluster) == {"a": 4}
    assert nodes_of(cluster, "a") == {1}


def test_planning_on_what_was_planned_changes_nothing() -> None:
    cluster = pool(4, 4, 4)
    for number in range(5):
        add(cluster, f"job-{number}", np.arange(9.0) ** (0.5 + number / 10), left_s=100.0 * 3**number)
    sizes(cluster)
    assert not plan(cluster.snapshot(0.0))


def test_work_of_unknown_length_grows_too() -> None:
    cluster = pool(4)
    add(cluster, "a", left_s=math.nan)
    assert sizes(cluster) == {"a": 4}


def test_the_higher_class_has_more_of_the_surplus() -> None:
    cluster = pool(8)
    add(cluster, "production", np.arange(9.0) ** 0.5, priority=3)
    add(cluster, "experiment", np.arange(9.0) ** 0.5, priority=1)
    got = sizes(cluster)
    assert got["production"] > got["experiment"]


def test_the_horizon_is_a_setting_of_the_pool() -> None:
    cluster = Cluster(make_nodes(np.array([vector(gpu=8)])), settings=Settings(horizon_s=31.0))
    row = add(cluster, "a", np.arange(9.0), left_s=1e6, restart_s=30.0)
    sizes(cluster)
    cluster.release(row, cluster.held[row][4:])
    assert sizes(cluster, 10.0) == {"a": 4}
