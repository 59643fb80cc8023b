"""Whose turn it is, in pools small enough to say it by hand."""

from __future__ import annotations

import math

import numpy as np

from springtide.core import Cluster
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.quota import Quota
from springtide.core.resources import vector
from springtide.core.shares import Line, lacking
from springtide.core.snapshot import BATCH, Teams

HALF_LIFE_S = 7 * 86400.0


def a_pool(parent: list[int], weight: list[float] | None = None, history: list[float] | None = None) -> Cluster:
    count = len(parent)
    none = np.zeros((count, 5))
    teams = Teams(
        [f"team-{t}" for t in range(count)], np.array(parent), none, none + np.inf,
        np.array(weight or [1.0] * count), np.full(count, np.inf), np.array(history or [0.0] * count),
    )  # fmt: skip
    return Cluster(make_nodes(np.array([vector(cpu=16)])), teams)


def add(cluster: Cluster, name: str, **columns: float) -> None:
    cpu = columns.pop("cpu", 1.0)
    cluster.add(name, kind=BATCH, request=vector(cpu=cpu), minimum=1, **columns)


def turns(cluster: Cluster) -> list[str]:
    """Names in the order in which they are due, if each is admitted when it is its turn."""
    draft = Draft(cluster.snapshot(0.0))
    line = Line(draft, lacking(draft), Quota(draft))
    names = []
    while queue := line.pop():
        row = queue.waiting.pop()[-1]
        names.append(cluster.names[row])
        line.served(queue.team, draft.request(row))
        line.back(queue)
    return names


def test_teams_take_turns_as_their_shares_grow() -> None:
    cluster = a_pool([-1, -1])
    for k in range(3):
        add(cluster, f"a{k}", team=0, submitted_s=float(k))
        add(cluster, f"b{k}", team=1, submitted_s=10.0 + k)
    assert turns(cluster) == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_team_of_twice_the_weight_has_two_turns_for_one() -> None:
    cluster = a_pool([-1, -1], weight=[1.0, 2.0])
    for k in range(4):
        add(cluster, f"a{k}", team=0)
        add(cluster, f"b{k}", team=1)
    assert [name[0] for name in turns(cluster)[:6]].count("b") == 4


def test_nested_teams_are_compared_where_they_part() -> None:
    """Teams 2 and 3 are one half (under 0), team 1 the other."""
    cluster = a_pool([-1, -1, 0, 0])
    for k in range(2):
        for team in (1, 2, 3):
            add(cluster, f"{team}-{k}", team=team)
    assert [name[0] for name in turns(cluster)[:4]].count("1") == 2


def test_what_a_team_used_before_counts_less_the_longer_ago() -> None:
    """History is decayed by whoever keeps it; here it is seen as an average share."""
    cluster = a_pool([-1, -1], history=[0.5 * HALF_LIFE_S / math.log(2), 0.0])
    for k in range(9):
        add(cluster, f"a{k}", team=0)
        add(cluster, f"b{k}", team=1)
    assert turns(cluster)[:8] == [f"b{k}" for k in range(8)]


def test_inside_a_team_least_slack_then_least_remaining_service_then_bid_then_time_decides() -> None:
    cluster = a_pool([-1])
    add(cluster, "late", remaining_s=10.0, submitted_s=2.0)
    add(cluster, "early", remaining_s=10.0, submitted_s=1.0)
    add(cluster, "bid", remaining_s=10.0, bid_core=1.0, submitted_s=3.0)
    add(cluster, "short", remaining_s=5.0, submitted_s=4.0)
    add(cluster, "wide", remaining_s=5.0, cpu=4.0, submitted_s=0.0)
    add(cluster, "deadline", remaining_s=50.0, deadline_s=500.0, submitted_s=5.0)
    add(cluster, "sooner", remaining_s=50.0, deadline_s=400.0, submitted_s=5.0)
    assert turns(cluster) == ["sooner", "deadline", "short", "bid", "early", "late", "wide"]


def test_where_the_work_left_is_unknown_least_attained_service_is_first() -> None:
    cluster = a_pool([-1])
    add(cluster, "had-much", attained_s=100.0)
    add(cluster, "had-little", attained_s=1.0)
    assert turns(cluster) == ["had-little", "had-much"]
