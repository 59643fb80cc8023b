"""Random pools, teams, jobs and histories for the laws of planning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from springtide.core import Cluster, Plan, Snapshot, plan
from springtide.core.cluster import make_nodes
from springtide.core.load import Load
from springtide.core.resources import vector
from springtide.core.settings import Settings
from springtide.core.snapshot import ANYHOW, BATCH, PACK, SERVICE, SPREAD, STREAM, TRAINING, Teams

INF = math.inf
MACHINES = (
    vector(cpu=8, memory=32, gpu=4, disk=INF, network=INF),
    vector(cpu=8, memory=64, disk=INF, network=INF),
    vector(cpu=4, memory=16, gpu=2, disk=4, network=INF),
    vector(cpu=INF, memory=INF, gpu=1, disk=INF, network=INF),
)


@dataclass
class History:
    """A pool and what happens to it: events are (seconds since the last, what, number or a job's columns)."""

    machines: list[int]
    zones: list[str]
    teams: Teams
    first: list[dict[str, Any]]
    events: list[tuple[float, str, Any]] = field(default_factory=list)
    patience_s: float = Settings().patience_s

    def cluster(self, without: str = "", more_nodes: int = 0) -> Cluster:
        """The pool before anything was planned; `more_nodes` of the first kind, unlabelled zone `a`, are added."""
        machines = self.machines + [0] * more_nodes
        zones = self.zones + ["a"] * more_nodes
        nodes = make_nodes(np.array([MACHINES[m] for m in machines]), labels=[{"zone": z} for z in zones])
        cluster = Cluster(nodes, self.teams, settings=Settings(patience_s=self.patience_s))
        for job in self.first:
            if job["name"] != without:
                add(cluster, job)
        return cluster


def add(cluster: Cluster, job: dict[str, Any]) -> int:
    """A job as `jobs` draws it."""
    job = dict(job)
    rate = job.pop("rate", None)
    load = None if rate is None else Load(rate=rate, per_replica=1.0)
    return cluster.add(job.pop("name"), request=vector(**job.pop("request")), load=load, **job)


KINDS = (SERVICE, STREAM, BATCH, TRAINING)
CLASSES = (0, 1, 1, 2, 3)


@st.composite
def jobs(
    draw: st.DrawFn, name: str, teams: int, kinds: tuple[int, ...] = KINDS, classes: tuple[int, ...] = CLASSES
) -> dict:
    """One job, of any kind and class, sometimes of a size that nothing holds."""
    kind = draw(st.sampled_from(kinds))
    minimum = draw(st.sampled_from([1, 1, 1, 2, 2, 3, 4, 9]))
    elastic = kind in (SERVICE, TRAINING)
    request = {
        "cpu": draw(st.sampled_from([0.5, 1, 1, 2, 3, 16])),
        "memory": draw(st.sampled_from([0, 1, 4, 8])),
        "gpu": draw(st.sampled_from([0, 0, 0, 0.25, 0.5, 1, 1, 2, 4])),
        "disk": draw(st.sampled_from([0, 0, 0, 1])),
    }
    job = {
        "name": name, "kind": kind, "request": request, "minimum": minimum,
        "maximum": minimum + (draw(st.integers(0, 6)) if elastic else 0),
        "priority": draw(st.sampled_from(classes)),
        "team": draw(st.integers(0, teams - 1)),
        "remaining_s": draw(st.sampled_from([math.nan, 50.0, 400.0, 3000.0])),
        "bid_core": draw(st.sampled_from([0.0, 1.0, 2.0])),
        "deadline_s": draw(st.sampled_from([INF, INF, INF, 600.0])),
        "submitted_s": float(draw(st.integers(-20, 0))),
        "wishes": draw(st.sampled_from([{}, {}, {}, {"zone": ("a",)}])),
        "prefers": draw(st.sampled_from([{}, {}, {}, {"zone": ("b",)}])),
        "arrange": draw(st.sampled_from([ANYHOW, ANYHOW, SPREAD, PACK])),
    }  # fmt: skip
    if kind == SERVICE:
        job["rate"] = draw(st.sampled_from([0.0, 1.0, 3.0, 6.0]))
    return job


@st.composite
def teams(draw: st.DrawFn, guarantees: bool = True) -> Teams:
    """Some teams, nested, some with guarantees and limits."""
    count = draw(st.integers(1, 4))
    parent = np.array([draw(st.integers(-1, t - 1)) for t in range(count)])
    guarantee, borrow = np.zeros((count, 5)), np.full((count, 5), INF)
    for t in range(count):
        if guarantees and draw(st.booleans()):
            guarantee[t] = vector(cpu=draw(st.integers(0, 6)), gpu=draw(st.integers(0, 3)))
        if guarantees and draw(st.integers(0, 3)) == 0:
            borrow[t, :3] = draw(st.integers(0, 4))
            borrow[t, 1] = INF
    weight = np.array([draw(st.sampled_from([1.0, 1.0, 2.0])) for _ in range(count)])
    history = np.array([draw(st.sampled_from([0.0, 0.0, 100000.0])) for _ in range(count)])
    return Teams([f"team-{t}" for t in range(count)], parent, guarantee, borrow, weight, np.full(count, INF), history)


@st.composite
def histories(
    draw: st.DrawFn,
    guarantees: bool = True,
    most_nodes: int = 4,
    most_jobs: int = 8,
    most_events: int = 6,
    kinds: tuple[int, ...] = KINDS,
    classes: tuple[int, ...] = CLASSES,
) -> History:
    """A whole history."""
    nodes = draw(st.integers(1, most_nodes))
    machines = [draw(st.integers(0, len(MACHINES) - 1)) for _ in range(nodes)]
    zones = [draw(st.sampled_from(["a", "b"])) for _ in range(nodes)]
    who = draw(teams(guarantees))
    count = len(who.names)
    first = [draw(jobs(f"job-{k}", count, kinds, classes)) for k in range(draw(st.integers(1, most_jobs)))]
    events: list[tuple[float, str, Any]] = []
    for k in range(draw(st.integers(0, most_events))):
        what = draw(st.sampled_from(["arrive", "arrive", "end", "lose", "return", "rate", "maximum", "pass", "save"]))
        detail = draw(jobs(f"late-{k}", count, kinds, classes)) if what == "arrive" else draw(st.integers(0, 9))
        events.append((draw(st.sampled_from([0.0, 1.0, 60.0, 700.0])), what, detail))
    return History(machines, zones, who, first, events, draw(st.sampled_from([5.0, Settings().patience_s])))


def play(history: History, cluster: Cluster | None = None) -> Iterator[tuple[Snapshot, Plan, Cluster]]:
    """Plans after each event, and carries it out: (what was seen, what was decided, the cluster afterwards)."""
    cluster = cluster or history.cluster()
    now_s = 0.0
    for wait_s, what, detail in [(0.0, "pass", 0), *history.events]:
        now_s += wait_s
        _advance(cluster, wait_s)
        _happen(cluster, what, detail, now_s)
        seen = cluster.frozen(now_s)
        decided = plan(cluster.snapshot(now_s))
        cluster.apply(decided, now_s)
        yield seen, decided, cluster


def _advance(cluster: Cluster, seconds: float) -> None:
    """Jobs that run get older; work that is not elastic training is not saved."""
    held = cluster.column("running") * seconds
    cluster.column("attained_s")[:] += held
    cluster.column("unsaved_s")[:] += np.where(cluster.column("kind") == TRAINING, 0.0, held)
    left = cluster.column("remaining_s")
    left[:] = np.where(np.isnan(left), left, np.maximum(left - held, 1.0))


def _happen(cluster: Cluster, what: str, detail: Any, now_s: float) -> None:
    live = sorted(cluster.rows.values())
    node = detail % len(cluster.nodes.names) if isinstance(detail, int) else 0
    if what == "arrive":
        add(cluster, {**detail, "submitted_s": now_s})
    elif what == "lose" and cluster.nodes.alive[node]:
        cluster.lose_node(node)
    elif what == "return" and not cluster.nodes.alive[node]:
        cluster.return_node(node)
    elif live and what in ("end", "rate", "maximum", "save"):
        row = live[detail % len(live)]
        if what == "end":
            cluster.remove(row)
        elif what == "rate" and row in cluster.loads:
            cluster.loads[row] = Load(rate=float(detail), per_replica=1.0)
        elif what == "maximum":
            cluster.set(row, maximum=int(cluster.column("minimum")[row]))
        elif what == "save":
            cluster.set(row, unsaved_s=0.0)
