"""No starving: whoever is oldest in the highest blocked class starts, whatever keeps coming behind it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from springtide.core import Cluster, plan
from springtide.core.cluster import make_nodes
from springtide.core.resources import vector
from springtide.core.settings import Settings
from springtide.core.snapshot import BATCH, SERVICE, TRAINING, Teams

ROUND_S = 10.0
LONGEST = 4  # rounds that a small job runs
ROUNDS = 4 * LONGEST

small = st.fixed_dictionaries(
    {
        "kind": st.sampled_from([BATCH, BATCH, BATCH, TRAINING]),
        "request": st.sampled_from([vector(cpu=1), vector(cpu=3), vector(cpu=1, gpu=0.5), vector(cpu=1, gpu=1)]),
        "minimum": st.integers(1, 2),
        "priority": st.sampled_from([1, 2, 2, 2]),
        "known": st.booleans(),
        "life": st.integers(2, LONGEST),
    }
)
nodes = st.lists(st.sampled_from([vector(cpu=8, gpu=2), vector(cpu=4, gpu=1), vector(cpu=8)]), min_size=1, max_size=3)


class World:
    """A pool in which jobs end when they have run for so many rounds."""

    def __init__(self, machines: list[np.ndarray], patience_s: float = 1e9, teams: Teams | None = None) -> None:
        self.cluster = Cluster(make_nodes(np.array(machines)), teams, settings=Settings(patience_s=patience_s))
        self.left: dict[str, int] = {}
        self.now_s = 0.0

    def add(self, small: dict[str, Any]) -> None:
        columns = {name: small[name] for name in ("kind", "request", "minimum", "priority", "team") if name in small}
        remaining_s = small["life"] * ROUND_S * small["minimum"] if small["known"] else np.nan
        name = f"small-{len(self.cluster.names)}-{self.now_s}-{len(self.left)}"
        more = int(small["kind"] == TRAINING)
        columns |= {"maximum": small["minimum"] + more, "submitted_s": self.now_s, "remaining_s": remaining_s}
        self.cluster.add(name, **columns, speeds=np.arange(columns["maximum"] + 1.0))
        self.left[name] = small["life"]

    def passed(self) -> None:
        """Plans, and lets a round pass."""
        self.cluster.apply(plan(self.cluster.snapshot(self.now_s)), self.now_s)
        self.now_s += ROUND_S
        for name in [name for name, row in self.cluster.rows.items() if self.cluster.held[row] and name in self.left]:
            row = self.cluster.rows[name]
            self.left[name] -= 1
            left_s = self.cluster.column("remaining_s")[row] - ROUND_S * self.cluster.column("minimum")[row]
            self.cluster.set(row, remaining_s=max(left_s, 0.0) if left_s == left_s else np.nan)
            if self.left[name] <= 0:
                self.cluster.remove(row)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    nodes,
    st.lists(small, min_size=2, max_size=6),
    st.lists(small, min_size=3, max_size=6),
    st.booleans(),
    st.integers(0, 2),
)
def test_the_oldest_of_the_highest_blocked_class_starts_where_higher_classes_leave_room(
    machines: list[np.ndarray], first: list[dict[str, Any]], coming: list[dict[str, Any]], gpus: bool, serving: int
) -> None:
    world = World(machines)
    if serving:
        world.cluster.add("web", kind=SERVICE, request=vector(cpu=1), minimum=serving, priority=3)
    for small in first:
        world.add(small)
    world.passed()
    request = vector(cpu=2, gpu=2) if gpus else vector(cpu=6)
    room = [machine[0] - serving >= request[0] and machine[2] >= request[2] for machine in machines]
    assume(any(room))
    large = world.cluster.add("large", kind=BATCH, request=request, priority=2, submitted_s=-1.0)
    for _ in range(ROUNDS):
        for small in coming:
            world.add(small)
        world.passed()
        if world.cluster.held[large]:
            return
    raise AssertionError(
        f"after {ROUNDS} rounds it still waits: {plan(world.cluster.snapshot(world.now_s)).waits[large]}"
    )


def two_teams() -> Teams:
    """The first used the pool for long, so that the other's jobs are always due before its own."""
    none = np.zeros((2, 5))
    history = np.array([1e9, 0.0])
    return Teams(["old", "new"], np.full(2, -1), none, none + np.inf, np.ones(2), np.full(2, np.inf), history)


@pytest.mark.parametrize("kind", [BATCH, TRAINING])
@pytest.mark.parametrize("team", [0, 1])
@pytest.mark.parametrize("large", [vector(cpu=4), vector(cpu=1)])
def test_who_has_waited_too_long_starts_and_stays_though_shorter_ones_keep_coming(
    kind: int, team: int, large: np.ndarray
) -> None:
    """Shorter ones of its own team or of one with less of a share, of which some have come whenever room is free."""
    world = World([vector(cpu=4)], patience_s=8 * ROUND_S, teams=two_teams())
    small = {"kind": kind, "request": vector(cpu=1), "minimum": 1, "priority": 2, "team": team, "known": True}
    row = world.cluster.add(
        "large", kind=kind, request=large, priority=2, submitted_s=0.0, remaining_s=1000.0, maximum=1
    )
    started = []
    for _ in range(8 + 4 * LONGEST):
        for _ in range(5):
            world.add({**small, "life": 2})
        world.passed()
        started.append(bool(world.cluster.held[row]))
    assert not any(started[:8]) and all(started[8 + LONGEST :])
