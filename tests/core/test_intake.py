"""What users write becomes rows of a cluster."""

from __future__ import annotations

import math

import numpy as np
import pytest

from springtide.core import intake, plan
from springtide.core.resources import vector
from springtide.core.snapshot import SPREAD
from springtide.spec import (
    Bid,
    Deadline,
    Job,
    Kind,
    Load,
    Node,
    Placement,
    Pool,
    Priority,
    Range,
    Resources,
    Team,
    Work,
)

POOL = Pool(
    nodes=(
        Node(name="big", resources=Resources(cpu=8, memory=32e9, gpu=2), labels={"zone": "a"}, gpu_model="H100"),
        Node(name="small", resources=Resources(cpu=2, memory=4e9)),
    ),
    teams=(Team(name="lab", guarantee=Resources(cpu=4), budget=9.0), Team(name="vision", parent="lab", weight=2.0)),
    floor=Bid(per_core_hour=0.5, per_gpu_hour=2.0),
    headroom=0.25,
    scale_down_s=10.0,
    tick_s=5.0,
)


def row_of(job: Job, now_s: float = 100.0) -> tuple[object, int]:
    cluster = intake.make_cluster(POOL)
    row = intake.add_job(cluster, job, now_s)
    return cluster.snapshot(now_s), row


def test_a_pool_becomes_nodes_teams_prices_and_settings() -> None:
    cluster = intake.make_cluster(POOL)
    assert cluster.teams.names == ["default", "lab", "vision"]
    assert cluster.teams.parent.tolist() == [-1, -1, 1]
    assert cluster.teams.budget.tolist() == [math.inf, 9.0, math.inf]
    assert cluster.teams.borrow[1, 0] == math.inf
    assert (cluster.prices.floor_core, cluster.prices.floor_gpu) == (0.5, 2.0)
    assert (cluster.settings.headroom, cluster.settings.scale_down_after_s) == (0.25, 10.0)
    assert cluster.settings.price_tick_s == 5.0
    assert cluster.nodes.device_count.tolist() == [2, 0]


def test_a_job_becomes_a_row() -> None:
    seen, row = row_of(
        Job(
            kind=Kind.TRAINING,
            name="digits",
            team="vision",
            priority=Priority.SPOT,
            replicas=Range(1, 4),
            resources=Resources(cpu=1, gpu=1),
            bid=Bid(per_core_hour=1.0, per_gpu_hour=3.0),
            microbatches=8,
            work=Work(seconds=7200.0),
            deadline=Deadline(within_s=60.0),
            placement=Placement(require={"zone": ("a",)}, prefer={"disk": ("fast",)}, arrange="spread"),
        )
    )
    jobs = seen.jobs
    assert (jobs.minimum[row], jobs.maximum[row], jobs.priority[row], jobs.team[row]) == (1, 4, 0, 2)
    assert (jobs.bid_core[row], jobs.bid_gpu[row], jobs.remaining_s[row], jobs.deadline_s[row]) == (1, 3, 7200, 160)
    assert seen.shapes.wishes[jobs.shape[row]] == {"zone": ("a",)}
    assert seen.shapes.prefers[jobs.shape[row]] == {"disk": ("fast",)}
    assert seen.shapes.arrange[jobs.shape[row]] == SPREAD
    assert np.array_equal(seen.shapes.request[jobs.shape[row]], vector(cpu=1, gpu=1))
    assert seen.curves.speed[jobs.curve[row], 3] == pytest.approx(8 / 3)


def test_a_wish_for_a_gpu_model_is_met_by_the_node_that_has_it() -> None:
    cluster = intake.make_cluster(POOL)
    wish = Placement(require={"gpu_model": ("H100",)})
    row = intake.add_job(cluster, Job(kind=Kind.BATCH, name="a", placement=wish), 0.0)
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    assert [slot.node for slot in cluster.held[row]] == [0]


@pytest.mark.parametrize(
    ("said", "carries"), [(Load(requests_per_second=50.0), 50.0), (Load(cpu=0.7), 1.4)], ids=["requests", "cpu"]
)
def test_what_one_replica_carries_is_in_requests_or_in_cores(said: Load, carries: float) -> None:
    seen, row = row_of(Job(kind=Kind.SERVICE, name="web", load=said, resources=Resources(cpu=2)))
    assert seen.jobs.loads[row].per_replica == pytest.approx(carries)


def test_a_stated_pattern_and_headroom_come_along() -> None:
    said = Load(requests_per_second=5.0, pattern=(0.5,) * 23 + (1.0,), headroom=0.5)
    seen, row = row_of(Job(kind=Kind.SERVICE, name="web", load=said))
    assert seen.jobs.loads[row].headroom == 0.5
    assert seen.jobs.loads[row].pattern.max() > 0.95


def test_work_in_steps_is_of_unknown_length_yet() -> None:
    seen, row = row_of(Job(kind=Kind.TRAINING, name="a", work=Work(steps=100)))
    assert np.isnan(seen.jobs.remaining_s[row])
