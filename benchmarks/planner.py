"""How long a pass of the planner takes, and how that grows with nodes, jobs and teams.

Four passes over the same made-up pool: everything waits (each replica is placed), everything runs (nothing is to be
done), one job has just arrived, one has just ended. The peak of memory is that of the first pass, snapshot included.
Kubernetes' default scheduler, for comparison, places 680 to 810 pods a second on 5,000 nodes.
"""

from __future__ import annotations

import gc
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks import table
from benchmarks.table import Row
from springtide.core import Cluster, Plan, plan
from springtide.core.cluster import make_nodes
from springtide.core.load import Load
from springtide.core.resources import vector
from springtide.core.snapshot import BATCH, SERVICE, TRAINING, Teams

GIB = 2**30
MACHINES = (  # what a company's machine room holds, in equal parts
    vector(cpu=64, memory=512 * GIB, gpu=8, disk=2e9, network=12.5e9),
    vector(cpu=96, memory=384 * GIB, disk=4e9, network=3e9),
    vector(cpu=32, memory=128 * GIB, disk=1e9, network=1.25e9),
    vector(cpu=48, memory=192 * GIB, gpu=2, disk=1e9, network=3e9),
)


@dataclass(frozen=True)
class Size:
    """How large a pool is. Its jobs hold about five replicas each, nine tenths of them below 16."""

    nodes: int
    replicas: int
    jobs: int
    teams: int

    def __str__(self) -> str:
        return f"{self.nodes:,} nodes, {self.replicas:,} replicas, {self.jobs:,} jobs, {self.teams:,} teams"


WHOLE = Size(10_000, 100_000, 20_000, 20)


def pool(size: Size, seed: int = 0) -> Cluster:
    """A pool of that size where every job fits, and all jobs wait."""
    chosen = np.array([MACHINES[n % len(MACHINES)] for n in range(size.nodes)])
    none = np.zeros((size.teams, 5))
    names = [f"team-{t}" for t in range(size.teams)]
    parent = np.full(size.teams, -1)
    ones, unlimited = np.ones(size.teams), np.full(size.teams, np.inf)
    teams = Teams(names, parent, none, none + np.inf, ones, unlimited, np.zeros(size.teams))
    cluster = Cluster(make_nodes(chosen), teams)
    rng = np.random.default_rng(seed)
    counts = np.maximum(1, rng.geometric(0.22, size.jobs))
    counts = np.maximum(1, np.round(counts * size.replicas / counts.sum())).astype(int)
    for number, count in enumerate(counts.tolist()):
        add(cluster, f"job-{number}", count, size.teams, rng)
    return cluster


def add(cluster: Cluster, name: str, count: int, teams: int, rng: np.random.Generator) -> int:
    """A job like the others: a service, a batch of fixed size, or elastic training, in one of some 50 shapes."""
    kind = int(rng.choice([SERVICE, BATCH, TRAINING], p=[0.3, 0.4, 0.3]))
    gpu = float(rng.choice([0, 0.25, 0.5, 1], p=[0.4, 0.2, 0.2, 0.2])) if kind == TRAINING else 0.0
    request = vector(
        cpu=float(rng.choice([0.5, 1, 2, 4])), memory=float(rng.choice([1, 2, 4])) * GIB, gpu=gpu, disk=1e6
    )
    least = max(1, count // 2) if kind == TRAINING else count
    carries = Load(rate=0.9 * count, per_replica=1.0, headroom=0.0)
    load = carries.observed(carries.rate, 500.0) if kind == SERVICE else None
    priority = {SERVICE: 3, BATCH: 2, TRAINING: 1}[kind]
    team = int(rng.integers(teams))
    return cluster.add(
        name, kind=kind, request=request, minimum=least, maximum=count, load=load, team=team, priority=priority,
        submitted_s=float(rng.uniform(0, 1000)), remaining_s=float(rng.exponential(3600)),
    )  # fmt: skip


def seconds(work: Callable[[], Plan], rounds: int) -> tuple[float, Plan]:
    """The median time of a pass, and what it decided."""
    times = []
    for _ in range(rounds):
        gc.collect()
        began = time.perf_counter()
        decided = work()
        times.append(time.perf_counter() - began)
    return statistics.median(times), decided


def measure(size: Size, rounds: int, memory: bool = False) -> list[Row]:
    """All passes over one pool."""
    table.progress(f"planner: {size}")
    cluster, now_s = pool(size), 1000.0
    rows = []

    def note(metric: str, value: float, unit: str = "s") -> None:
        rows.append(Row(str(size), "springtide", 0, metric, value, unit))

    if memory:
        note("memory", _peak_bytes(cluster, now_s), "B")
    spent, decided = seconds(lambda: plan(cluster.snapshot(now_s)), rounds)
    placed = sum(len(action.added) for action in decided.actions)
    note("everything waits", spent)
    note("replicas placed a second", placed / spent, "/s")
    cluster.apply(decided, now_s)
    spent, decided = seconds(lambda: plan(cluster.snapshot(now_s)), rounds)
    assert not decided, "a plan was not still"
    note("everything runs", spent)
    rng = np.random.default_rng(1)
    row = add(cluster, "newcomer", 4, size.teams, rng)
    note("one job has arrived", seconds(lambda: plan(cluster.snapshot(now_s)), rounds)[0])
    cluster.remove(row)
    cluster.remove(cluster.rows["job-7"])
    note("one job has ended", seconds(lambda: plan(cluster.snapshot(now_s)), rounds)[0])
    return rows


def _peak_bytes(cluster: Cluster, now_s: float) -> float:
    tracemalloc.start()
    plan(cluster.snapshot(now_s))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak)


def growth(rows: list[Row], what: str, sizes: list[tuple[float, Size]]) -> list[Row]:
    """By which power of `what` a pass grows, from the smallest to the largest size (1 is in proportion)."""
    found = []
    for metric in ("everything waits", "everything runs", "one job has arrived"):
        values = {row.work: row.value for row in rows if row.metric == metric}
        (least, small), (most, large) = sizes[0], sizes[-1]
        first, last = values[str(small)], values[str(large)]
        assert first and last
        power = math.log(last / first) / math.log(most / least)
        found.append(Row(f"{metric}, {least:,.0f} to {most:,.0f} {what}", "springtide", 0, "power", power, ""))
    return found


def main() -> None:
    arguments = table.parse("planner", __doc__)
    rounds = 1 if arguments.quick else 3
    part = 4 if arguments.quick else 1
    nodes = [
        (n, Size(n, n * 10, n * 2, 20))
        for n in (WHOLE.nodes // 16 // part, WHOLE.nodes // 4 // part, WHOLE.nodes // part)
    ]
    jobs = [
        (n, Size(WHOLE.nodes // part, 50_000 // part, n, 20)) for n in (2500 // part, 10_000 // part, 40_000 // part)
    ]
    teams = [(n, Size(WHOLE.nodes // part, 100_000 // part, 20_000 // part, n)) for n in (1, 32, 1000 // part)]
    rows: list[Row] = []
    for what, sizes in (("nodes", nodes), ("jobs", jobs), ("teams", teams)):
        measured = [row for _, size in sizes for row in measure(size, rounds, memory=what == "nodes")]
        rows += measured + growth(measured, what, sizes)
    for metric in ("everything waits", "everything runs", "one job has arrived", "one job has ended", "memory"):
        table.show(metric, rows, metric)
    table.show("Cost grows with this power", rows, "power")
    table.save(arguments.json, rows)


if __name__ == "__main__":
    main()
