"""Who gives way to whom, and how little of it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from springtide.core import Cluster, Plan, claims, plan, shrink
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.holdings import Holdings
from springtide.core.load import Load
from springtide.core.plan import Verb
from springtide.core.resources import vector
from springtide.core.snapshot import BATCH, SERVICE, TRAINING, Slot


def a_pool(*gpus: int) -> Cluster:
    return Cluster(make_nodes(np.array([vector(cpu=64, gpu=count) for count in gpus])))


def add(cluster: Cluster, name: str, gpus: int, replicas: int = 1, kind: int = BATCH, **columns: float) -> int:
    """So many replicas of so many GPUs, submitted after those that are there."""
    columns.setdefault("submitted_s", float(len(cluster.names)))
    maximum = int(columns.pop("maximum", replicas))
    return cluster.add(name, kind=kind, request=vector(gpu=gpus), minimum=replicas, maximum=maximum, **columns)


def settle(cluster: Cluster, now_s: float = 10.0) -> Plan:
    decided = plan(cluster.snapshot(now_s))
    cluster.apply(decided, now_s)
    return decided


def running(cluster: Cluster) -> dict[str, int]:
    return {name: len(cluster.held[row]) for name, row in cluster.rows.items()}


def test_an_equal_waits() -> None:
    cluster = a_pool(4)
    add(cluster, "first", 4)
    settle(cluster)
    add(cluster, "second", 4)
    settle(cluster)
    assert running(cluster) == {"first": 1, "second": 0}


def test_a_better_takes_surplus_before_it_preempts_anybody() -> None:
    cluster = a_pool(4, 4)
    add(cluster, "fixed", 4)
    add(cluster, "elastic", 1, kind=TRAINING, maximum=4, unsaved_s=0.0)
    settle(cluster)
    add(cluster, "better", 3, priority=2)
    decided = settle(cluster)
    assert running(cluster) == {"fixed": 1, "elastic": 1, "better": 1}
    assert [action.verb for action in decided.actions] == [Verb.SHRINK, Verb.START]


def test_surplus_of_a_lower_class_goes_before_that_of_an_equal() -> None:
    cluster = a_pool(4, 4)
    add(cluster, "equal", 1, kind=TRAINING, maximum=4, priority=2)
    add(cluster, "lower", 1, kind=TRAINING, maximum=4, priority=1)
    settle(cluster)
    assert running(cluster) == {"equal": 4, "lower": 4}
    add(cluster, "new", 1, replicas=3, priority=2)
    settle(cluster)
    assert running(cluster) == {"equal": 4, "lower": 1, "new": 3}


def test_no_more_surplus_is_taken_than_is_needed() -> None:
    cluster = a_pool(8)
    add(cluster, "elastic", 1, kind=TRAINING, maximum=8)
    settle(cluster)
    add(cluster, "new", 2)
    settle(cluster)
    assert running(cluster) == {"elastic": 6, "new": 1}


def test_of_a_lower_class_who_loses_least_is_preempted() -> None:
    cluster = a_pool(4, 4, 4)
    for name, unsaved_s in (("much", 500.0), ("little", 20.0), ("some", 100.0)):
        add(cluster, name, 4, unsaved_s=unsaved_s)
    settle(cluster)
    add(cluster, "better", 4, priority=2)
    decided = settle(cluster)
    assert running(cluster) == {"much": 1, "little": 0, "some": 1, "better": 1}
    assert any("20 replica-seconds are lost" in str(action.reason) for action in decided.actions)


def test_spot_goes_before_others_and_the_lowest_bid_first() -> None:
    cluster = a_pool(4, 4, 4)
    add(cluster, "cheap", 4, priority=1)
    add(cluster, "high", 4, priority=0, bid_gpu=2.0, unsaved_s=1.0)
    add(cluster, "low", 4, priority=0, bid_gpu=1.0, unsaved_s=900.0)
    settle(cluster)
    add(cluster, "better", 4, priority=2)
    settle(cluster)
    assert running(cluster) == {"cheap": 1, "high": 1, "low": 0, "better": 1}


def test_who_was_preempted_moves_where_there_is_room() -> None:
    cluster = a_pool(4, 2)
    cluster.hold(add(cluster, "small", 2), [Slot(0, 0b11)])
    add(cluster, "better", 4, priority=2)
    decided = settle(cluster)
    assert running(cluster) == {"small": 1, "better": 1}
    assert {action.verb for action in decided.actions} == {Verb.MOVE, Verb.START}


def test_a_service_gives_single_replicas_and_others_stop_whole() -> None:
    cluster = a_pool(4)
    row = add(cluster, "web", 1, replicas=1, kind=SERVICE, maximum=4)
    cluster.loads[row] = Load(rate=4.0, per_replica=1.0, headroom=0.0)
    settle(cluster)
    add(cluster, "better", 2, priority=3)
    settle(cluster)
    assert running(cluster) == {"web": 2, "better": 1}


def test_a_service_gets_every_replica_that_fits_and_says_what_it_lacks() -> None:
    cluster = a_pool(3)
    row = add(cluster, "web", 1, replicas=1, kind=SERVICE, maximum=5)
    cluster.loads[row] = Load(rate=5.0, per_replica=1.0, headroom=0.0)
    decided = settle(cluster)
    assert running(cluster) == {"web": 3}
    assert str(decided.waits[row]).startswith("waits for 2 gpu")


@pytest.mark.parametrize(("left_s", "starts"), [(10.0, True), (1000.0, False)])
def test_training_that_loses_nothing_is_suspended_for_one_of_its_team_with_less_left(
    left_s: float, starts: bool
) -> None:
    cluster = a_pool(4)
    add(cluster, "long", 4, kind=TRAINING, remaining_s=500.0)
    settle(cluster)
    add(cluster, "new", 4, kind=TRAINING, remaining_s=left_s)
    settle(cluster)
    assert running(cluster) == {"long": int(not starts), "new": int(starts)}


def test_it_is_suspended_so_at_most_once_in_ten_minutes() -> None:
    cluster = a_pool(4)
    add(cluster, "long", 4, kind=TRAINING, remaining_s=500.0)
    settle(cluster)
    for k, (now_s, starts) in enumerate([(100.0, True), (200.0, False), (800.0, True)]):
        add(cluster, f"short-{k}", 4, kind=TRAINING, remaining_s=5.0)
        settle(cluster, now_s)
        assert bool(running(cluster)[f"short-{k}"]) == starts
        cluster.remove(cluster.rows[f"short-{k}"])
        settle(cluster, now_s + 5)


def test_work_that_would_be_lost_and_other_teams_are_not_suspended_for_an_equal() -> None:
    cluster = a_pool(4)
    add(cluster, "long", 4, kind=TRAINING, remaining_s=500.0, unsaved_s=1.0)
    settle(cluster)
    add(cluster, "short", 4, kind=TRAINING, remaining_s=5.0)
    assert not settle(cluster)


def test_unknown_work_gives_way_only_to_who_had_less_than_half_of_its_service() -> None:
    cluster = a_pool(4)
    add(cluster, "ran", 4, kind=TRAINING, remaining_s=math.nan)
    settle(cluster)
    cluster.set(0, attained_s=100.0)
    add(cluster, "had-60", 4, kind=TRAINING, remaining_s=math.nan, attained_s=60.0)
    assert not settle(cluster)
    add(cluster, "had-40", 4, kind=TRAINING, remaining_s=math.nan, attained_s=40.0)
    settle(cluster)
    assert running(cluster) == {"ran": 0, "had-60": 0, "had-40": 1}


def test_after_a_loss_of_nodes_what_ran_is_refilled_before_anybody_starts() -> None:
    cluster = a_pool(2, 2, 2)
    add(cluster, "ran", 1, replicas=4)
    settle(cluster)
    cluster.lose_node(cluster.held[0][0].node)
    add(cluster, "new", 1, replicas=2, remaining_s=1.0)
    settle(cluster)
    assert running(cluster) == {"ran": 4, "new": 0}


def test_what_cannot_be_refilled_is_suspended_and_leaves_its_room() -> None:
    cluster = a_pool(2, 2)
    add(cluster, "ran", 1, replicas=4)
    settle(cluster)
    cluster.lose_node(0)
    add(cluster, "new", 1, replicas=2)
    decided = settle(cluster)
    assert running(cluster) == {"ran": 0, "new": 2}
    assert any("were lost and do not fit" in str(action.reason) for action in decided.actions)


def test_a_job_that_no_node_could_hold_is_told_the_largest() -> None:
    cluster = a_pool(2, 4)
    row = add(cluster, "huge", 5)
    assert str(settle(cluster).waits[row]) == "waits for 5 gpu on one node: the largest, node-1, has 4"


def test_where_lower_surplus_is_not_enough_it_goes_first_and_equals_add_the_rest() -> None:
    cluster = a_pool(4, 4)
    add(cluster, "equal", 1, kind=TRAINING, maximum=4, priority=2)
    add(cluster, "lower", 1, kind=TRAINING, maximum=4, priority=1)
    settle(cluster)
    add(cluster, "new", 1, replicas=4, priority=2)
    settle(cluster)
    assert running(cluster) == {"equal": 3, "lower": 1, "new": 4}


def test_surplus_that_would_be_taken_in_vain_is_left() -> None:
    """Who has most per weight holds no GPU."""
    cluster = Cluster(make_nodes(np.array([vector(cpu=64, gpu=4)])))
    cluster.add("on-cpus", kind=TRAINING, request=vector(cpu=15), minimum=1, maximum=4)
    cluster.add("on-gpus", kind=TRAINING, request=vector(gpu=1), minimum=1, maximum=4)
    settle(cluster)
    row = add(cluster, "new", 2)
    draft = Draft(cluster.snapshot(0.0))
    shrink.make_room(Holdings(draft), claims.claim_of(draft, row))
    assert draft.count.tolist()[:2] == [4, 2]


def test_who_is_preempted_and_starts_elsewhere_at_once_is_told_both() -> None:
    cluster = a_pool(2, 2)
    rows = [add(cluster, f"batch-{node}", 1) for node in range(2)]
    for node, row in enumerate(rows):
        cluster.hold(row, [Slot(node, 1)])
    add(cluster, "large", 2, priority=2)
    moved = [action for action in settle(cluster).actions if action.verb == Verb.MOVE]
    assert [str(action.reason) for action in moved] == [
        "preempted by large (standard); 0 replica-seconds are lost; starts again elsewhere"
    ]
