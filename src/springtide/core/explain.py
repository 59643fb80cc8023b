"""Why a job is where it is, and what would change that: found by asking the planner about altered snapshots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from springtide.core import forward, planner
from springtide.core.cluster import Cluster, make_nodes
from springtide.core.plan import Plan
from springtide.core.reasons import Reason, Replicas, amounts
from springtide.core.resources import FloatArray
from springtide.core.snapshot import BATCH, GONE, SERVICE, TRAINING, Snapshot
from springtide.spec.quantities import duration_text

MOST_TEAMS = 5  # of those that hold most, how many are asked to return something
MOST_SHAPES = 4  # of nodes, how many are tried


@dataclass(frozen=True, slots=True)
class Explanation:
    """One sentence with its numbers, and what would change it, a sentence each."""

    sentence: str
    changes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "\n".join([self.sentence, *(f"- {change}" for change in self.changes)])


def explain(snapshot: Snapshot, job: int, ahead: bool = True) -> Explanation:
    """Of the job in this row. `ahead`: also looks for a time, which takes up to `forward.MOST_PASSES` passes."""
    plan = planner.plan(snapshot)
    name = snapshot.jobs.names[job]
    if enough(snapshot, plan, job):
        return Explanation(f"{name} {_present(snapshot, plan, job)}")
    reason = plan.waits.get(job, Reason("waits, and nothing was said about it"))
    found = [*_smaller(snapshot, job), *_returns(snapshot, job), *_larger_pool(snapshot, job)]
    if ahead:
        found += _later(snapshot, job)
    return Explanation(f"{name} {reason}", tuple(found))


def enough(snapshot: Snapshot, plan: Plan, job: int) -> bool:
    """Whether the job has what it needs after the plan."""
    needed = plan.need.get(job, int(snapshot.jobs.minimum[job]))
    return count_after(snapshot, plan, job) >= needed


def count_after(snapshot: Snapshot, plan: Plan, job: int) -> int:
    """The job's replicas after the plan."""
    change = sum(len(a.added) - len(a.removed) for a in plan.actions if a.job == job)
    return int(snapshot.jobs.running[job]) + change


def _present(snapshot: Snapshot, plan: Plan, job: int) -> str:
    count, jobs = count_after(snapshot, plan, job), snapshot.jobs
    least, most = int(jobs.minimum[job]), int(jobs.maximum[job])
    sizes = str(Replicas(count)) + (f" of {least} to {most}" if least != most else "")
    for action in plan.actions:
        if action.job == job:
            return f"will have {sizes}: {action.reason}"
    if jobs.kind[job] == SERVICE:
        why = jobs.loads[job].why if job in jobs.loads else ""
        return f"runs with {sizes}; its load needs {plan.need.get(job, count)}" + (f": {why}" if why else "")
    if count < jobs.maximum[job]:
        return f"runs with {sizes}: nothing is left that would make it faster"
    return f"runs with {sizes}, as many as it may have"


def _starts(snapshot: Snapshot, job: int) -> bool:
    return enough(snapshot, planner.plan(snapshot), job)


def _with_minimum(snapshot: Snapshot, job: int, minimum: int) -> Snapshot:
    column = snapshot.jobs.minimum.copy()
    column[job] = minimum
    return replace(snapshot, jobs=replace(snapshot.jobs, minimum=column))


def _smaller(snapshot: Snapshot, job: int) -> Iterator[str]:
    """The largest smaller minimum with which it would start."""
    least, most = 0, int(snapshot.jobs.minimum[job])
    while most - least > 1:
        middle = (least + most) // 2
        fits = _starts(_with_minimum(snapshot, job, middle), job)
        least, most = (middle, most) if fits else (least, middle)
    if least:
        yield f"with a minimum of {least} instead of {int(snapshot.jobs.minimum[job])} it would start now"


def _returns(snapshot: Snapshot, job: int) -> Iterator[str]:
    """The first team, of those that hold most, whose last jobs' end would let it start; itself not counted."""
    jobs = snapshot.jobs
    rows = np.flatnonzero((jobs.kind != GONE) & (jobs.running > 0) & (np.arange(len(jobs.kind)) != job))
    if not len(rows):
        return
    held = np.bincount(jobs.team[rows], jobs.running[rows], len(snapshot.teams.names))
    for team in np.argsort(-held, kind="stable")[:MOST_TEAMS].tolist():
        mine = rows[jobs.team[rows] == team]
        mine = mine[np.lexsort((-jobs.submitted_s[mine], jobs.priority[mine]))]
        if not len(mine) or not _starts(_without(snapshot, mine.tolist()), job):
            continue
        least, most = 0, len(mine)  # how many of its least important jobs must end
        while most - least > 1:
            middle = (least + most) // 2
            fits = _starts(_without(snapshot, mine[:middle].tolist()), job)
            least, most = (least, middle) if fits else (middle, most)
        yield _returned(snapshot, team, mine[:most].tolist())
        return


def _returned(snapshot: Snapshot, team: int, rows: list[int]) -> str:
    jobs, shapes = snapshot.jobs, snapshot.shapes
    freed: FloatArray = sum(
        (shapes.request[jobs.shape[row]] * jobs.running[row] for row in rows), start=np.zeros(shapes.request.shape[1])
    )
    names = ", ".join(jobs.names[row] for row in rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
    return f"if team {snapshot.teams.names[team]} returned {amounts(freed)} ({names}) it would start"


def _without(snapshot: Snapshot, rows: list[int]) -> Snapshot:
    cluster = Cluster.of(snapshot)
    for row in rows:
        cluster.remove(row)
    return cluster.snapshot(snapshot.now_s)


def _larger_pool(snapshot: Snapshot, job: int) -> Iterator[str]:
    """The smallest kind of node of which one more would let it start."""
    nodes = snapshot.nodes
    kinds: dict[tuple[object, ...], int] = {}
    for node in np.flatnonzero(nodes.alive).tolist():
        kinds.setdefault((nodes.capacity[node].tobytes(), int(nodes.group[node])), node)
    total = np.where(np.isfinite(nodes.total()) & (nodes.total() > 0), nodes.total(), np.inf)
    finite = np.where(np.isfinite(nodes.capacity), nodes.capacity, 0.0)
    for node in sorted(kinds.values(), key=lambda node: float((finite[node] / total).sum()))[:MOST_SHAPES]:
        if _starts(_with_node(snapshot, node), job):
            yield f"with one node more like {nodes.names[node]} ({amounts(nodes.capacity[node])}) it would start"
            return


def _with_node(snapshot: Snapshot, like: int) -> Snapshot:
    """One node more of the same capacity and labels, empty."""
    old = snapshot.nodes
    labels = [old.labels[group] for group in old.group.tolist()]
    one = make_nodes(
        np.concatenate([old.capacity, old.capacity[like : like + 1]]), [*old.names, "one-more"],
        [*labels, {key: value for key, value in labels[like].items() if key != "node"}],
    )  # fmt: skip
    device = np.where(np.arange(snapshot.device_free.shape[1]) < old.device_count[like], 1.0, -np.inf)
    return replace(
        snapshot,
        nodes=replace(one, alive=np.append(old.alive, True)),
        free=np.concatenate([snapshot.free, old.capacity[like : like + 1]]),
        device_free=np.concatenate([snapshot.device_free, device[None, :]]),
    )


def _later(snapshot: Snapshot, job: int) -> Iterator[str]:
    """A time, if work of known or stated length ends early enough."""
    seen = forward.forecast(snapshot, job)
    if math.isfinite(seen.start_s) and seen.start_s > snapshot.now_s:
        jobs = snapshot.jobs
        unknown = np.isnan(jobs.remaining_s) & (jobs.running > 0) & ((jobs.kind == TRAINING) | (jobs.kind == BATCH))
        guess = ", if work of unknown length goes on for as long as it ran" if unknown.any() else ""
        yield f"by itself it starts in {duration_text(seen.start_s - snapshot.now_s)}{guess}"
