"""Guarantees, limits, borrowing and reclaiming, in nested teams."""

from __future__ import annotations

import numpy as np

from springtide.core import Cluster, Plan, plan
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.quota import Quota
from springtide.core.resources import GPU, vector
from springtide.core.snapshot import BATCH, SERVICE, TRAINING, Slot, Teams

INF = np.inf


def a_pool(gpus: int, *teams: tuple[str, int, float, float], names: str = "") -> Cluster:
    """One node of so many GPUs; teams are (name, parent, guaranteed GPUs, GPUs that may be borrowed)."""
    count = len(teams)
    guarantee, borrow = np.zeros((count, 5)), np.full((count, 5), INF)
    guarantee[:, GPU] = [team[2] for team in teams]
    borrow[:, GPU] = [team[3] for team in teams]
    parent = np.array([team[1] for team in teams])
    who = Teams(
        [team[0] for team in teams], parent, guarantee, borrow, np.ones(count), np.full(count, INF), np.zeros(count)
    )
    return Cluster(make_nodes(np.array([vector(cpu=64, gpu=gpus)])), who)


def add(cluster: Cluster, name: str, gpus: int, team: int = 0, **columns: float) -> int:
    kind = int(columns.pop("kind", BATCH))
    return cluster.add(name, kind=kind, request=vector(gpu=1), minimum=gpus, team=team, **columns)


def settle(cluster: Cluster, now_s: float = 0.0) -> Plan:
    decided = plan(cluster.snapshot(now_s))
    cluster.apply(decided, now_s)
    return decided


def running(cluster: Cluster) -> dict[str, int]:
    return {name: len(cluster.held[row]) for name, row in cluster.rows.items()}


def test_a_team_holds_no_more_than_its_guarantee_and_what_it_may_borrow() -> None:
    cluster = a_pool(16, ("vision", -1, 4, 2))
    for k in range(4):
        add(cluster, f"j{k}", 2)
    settle(cluster)
    assert sum(running(cluster).values()) == 6


def test_a_wait_names_the_team_its_use_its_guarantee_and_who_is_first_in_line() -> None:
    cluster = a_pool(12, ("vision", -1, 8, 2), ("speech", -1, 0, INF))
    add(cluster, "runs", 8)
    add(cluster, "other", 2, team=1, priority=3)
    settle(cluster)
    first = add(cluster, "nightly-asr", 4, team=1, priority=3)
    row = add(cluster, "waits", 4)
    decided = settle(cluster)
    assert str(decided.waits[row]) == (
        "waits for 4 gpu: team vision uses 8 of its 8 guaranteed and may borrow 2; "
        "2 are free, first in line is nightly-asr (production)"
    )
    assert first in decided.waits


def test_a_team_without_a_guarantee_may_borrow_everything() -> None:
    cluster = a_pool(8, ("vision", -1, 4, INF), ("rest", -1, 0, INF))
    add(cluster, "all", 8, team=1)
    settle(cluster)
    assert running(cluster) == {"all": 8}


def test_what_is_above_bounds_too() -> None:
    cluster = a_pool(16, ("all", -1, 4, 0), ("a", 0, 0, INF), ("b", 0, 0, INF))
    add(cluster, "a", 3, team=1)
    add(cluster, "b", 3, team=2, submitted_s=1.0)
    settle(cluster)
    assert running(cluster) == {"a": 3, "b": 0}


def test_a_team_inside_its_guarantee_takes_back_what_an_equal_has_borrowed() -> None:
    cluster = a_pool(8, ("owner", -1, 4, INF), ("guest", -1, 4, INF))
    add(cluster, "first", 4, team=1, submitted_s=0.0)
    add(cluster, "second", 4, team=1, submitted_s=1.0)
    settle(cluster)
    add(cluster, "mine", 4, team=0, submitted_s=2.0)
    decided = settle(cluster, 2.0)
    assert running(cluster) == {"first": 4, "second": 0, "mine": 4}
    assert any("team guest had borrowed" in str(action.reason) for action in decided.actions)


def test_borrowing_is_attributed_to_the_lowest_class_first() -> None:
    cluster = a_pool(8, ("owner", -1, 4, INF), ("guest", -1, 4, INF))
    add(cluster, "old-experiment", 4, team=1, submitted_s=0.0)
    add(cluster, "service-like", 4, team=1, priority=3, submitted_s=1.0)
    settle(cluster)
    add(cluster, "mine", 4, team=0, priority=1, submitted_s=2.0)
    settle(cluster, 2.0)
    assert running(cluster) == {"old-experiment": 0, "service-like": 4, "mine": 4}


def test_even_a_better_gives_back_what_its_team_borrowed_and_stays_away() -> None:
    cluster = a_pool(4, ("owner", -1, 4, INF), ("guest", -1, 0, INF))
    add(cluster, "better", 4, team=1, priority=3)
    settle(cluster)
    add(cluster, "mine", 4, team=0, submitted_s=1.0)
    settle(cluster, 1.0)
    assert running(cluster) == {"better": 0, "mine": 4}
    assert not settle(cluster, 1.0)
    assert not settle(cluster, 5000.0)


def test_a_team_outside_its_guarantee_reclaims_nothing() -> None:
    cluster = a_pool(8, ("owner", -1, 2, INF), ("guest", -1, 0, INF))
    add(cluster, "guest", 8, team=1)
    settle(cluster)
    add(cluster, "mine", 4, team=0, submitted_s=1.0)
    assert not settle(cluster, 1.0)


def test_a_member_claims_the_guarantee_of_the_team_above_it() -> None:
    cluster = a_pool(8, ("lab", -1, 4, INF), ("guest", -1, 0, INF), ("group", 0, 0, INF))
    add(cluster, "guest", 4, team=1, submitted_s=0.0)
    add(cluster, "guest-2", 4, team=1, submitted_s=1.0)
    settle(cluster)
    add(cluster, "mine", 4, team=2, submitted_s=2.0)
    settle(cluster, 2.0)
    assert running(cluster)["mine"] == 4


def test_a_guarantee_is_at_least_the_sum_of_those_below() -> None:
    cluster = a_pool(8, ("lab", -1, 1, 0), ("a", 0, 2, 0), ("b", 0, 3, 0))
    quota = Quota(Draft(cluster.snapshot(0.0)))
    assert quota.guarantee[:, GPU].tolist() == [5, 2, 3]


def test_surplus_of_an_equal_gives_way_to_a_minimum() -> None:
    cluster = a_pool(8, ("one", -1, 0, INF), ("two", -1, 0, INF))
    cluster.add("elastic", kind=TRAINING, request=vector(gpu=1), minimum=1, maximum=8, team=0)
    settle(cluster)
    assert running(cluster) == {"elastic": 8}
    add(cluster, "newcomer", 5, team=1, submitted_s=1.0)
    settle(cluster, 1.0)
    assert running(cluster) == {"elastic": 3, "newcomer": 5}


def stays(cluster: Cluster, now_s: float = 0.0) -> dict[str, int]:
    """Who runs after a pass, which another pass leaves as it is."""
    settle(cluster, now_s)
    again = plan(cluster.snapshot(now_s))
    assert not again, [str(action.reason) for action in again.actions]
    return running(cluster)


def test_no_bid_buys_what_a_team_is_guaranteed() -> None:
    cluster = a_pool(4, ("vision", -1, 0, INF), ("speech", -1, 4, 0))
    add(cluster, "high", 4, team=0, priority=0, bid_gpu=9.0)
    add(cluster, "low", 4, team=1, priority=0, bid_gpu=1.0)
    assert stays(cluster) == {"high": 0, "low": 4}
    assert stays(cluster, 60.0) == {"high": 0, "low": 4}


def test_what_a_member_is_guaranteed_is_not_taken_by_the_team_above_it() -> None:
    cluster = a_pool(4, ("lab", -1, 0, INF), ("vision", 0, 4, 0))
    add(cluster, "mine", 4, team=1, priority=1)
    settle(cluster)
    add(cluster, "above", 4, team=0, priority=3)
    assert stays(cluster, 1.0) == {"mine": 4, "above": 0}


def test_own_jobs_of_a_team_have_no_claim_on_what_a_member_leaves_of_its_guarantee() -> None:
    cluster = a_pool(2, ("lab", -1, 0, INF), ("vision", 0, 3, 0))
    add(cluster, "mine", 2, team=1, priority=1)
    settle(cluster)
    add(cluster, "above", 1, team=0, priority=3)
    assert stays(cluster, 1.0) == {"mine": 2, "above": 0}


def test_own_jobs_of_a_team_have_what_is_left_of_its_guarantee_beside_its_members() -> None:
    cluster = a_pool(4, ("lab", -1, 3, INF), ("vision", 0, 2, INF))
    for k in range(4):
        add(cluster, f"m{k}", 1, team=1, submitted_s=float(k))
    settle(cluster)
    add(cluster, "one", 1, team=0, submitted_s=9.0)
    add(cluster, "two", 1, team=0, submitted_s=10.0)
    assert stays(cluster, 1.0) == {"m0": 1, "m1": 1, "m2": 1, "m3": 0, "one": 1, "two": 0}


def test_who_starts_below_may_leave_another_of_its_team_outside_the_guarantee_for_a_better_class() -> None:
    cluster = a_pool(1, ("vision", -1, 0, INF), ("speech", -1, 0, INF))
    cluster.teams.guarantee[0] = vector(cpu=40)
    cluster.add("late", kind=BATCH, request=vector(cpu=20, gpu=1), team=0, priority=0, submitted_s=1.0)
    settle(cluster)
    cluster.add("early", kind=BATCH, request=vector(cpu=30), team=0, priority=0, submitted_s=0.0)
    cluster.add("better", kind=BATCH, request=vector(cpu=1, gpu=1), team=1, priority=1, submitted_s=2.0)
    assert stays(cluster, 2.0) == {"late": 0, "early": 1, "better": 1}


def test_a_service_gives_back_to_two_in_one_pass_what_its_team_borrowed() -> None:
    cluster = a_pool(4, ("web", -1, 0, INF), ("vision", -1, 1, 0), ("speech", -1, 1, 0))
    add(cluster, "shop", 4, team=0, kind=SERVICE)
    settle(cluster)
    add(cluster, "one", 1, team=1)
    add(cluster, "other", 1, team=2)
    assert stays(cluster, 1.0) == {"shop": 2, "one": 1, "other": 1}


def test_a_spot_job_that_is_suspended_after_a_loss_claims_its_guarantee_in_the_same_pass() -> None:
    cluster = a_pool(2, ("web", -1, 1, INF), ("vision", -1, 2, 0))
    settle(cluster)  # the tick has begun, no bid replaces another
    refill = add(cluster, "refill", 2, team=1, priority=0, bid_gpu=2.0)
    cluster.hold(refill, [Slot(0, 1)])  # the other replica was lost
    shop = add(cluster, "shop", 2, team=0, priority=0, kind=SERVICE)
    cluster.hold(shop, [Slot(0, 2)])
    assert stays(cluster, 1.0) == {"refill": 2, "shop": 0}
