"""Who is next by shares: dominant resource fairness, and clusters of one's own."""

from __future__ import annotations

import math

import numpy as np

from springtide.core import Plan, Snapshot, placement, resources, tide
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import CPU, GPU, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import SERVICE
from springtide.sim.baselines.fixed import asked_sizes, follow_services
from springtide.sim.baselines.queues import waiting
from springtide.sim.trace import Trace

_FURTHEST_BEHIND = Reason("its team has the least dominant share")
_OWN = Reason("its own cluster has room")


class Drf:
    """The team with the least dominant share starts its next job, if it fits (Ghodsi et al., NSDI'11)."""

    name = "drf"

    def __init__(self, trace: Trace) -> None:
        self._asked = asked_sizes(trace)

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft = Draft(snapshot)
        follow_services(draft)
        jobs, total = draft.jobs, draft.nodes.total()
        share = np.zeros(len(snapshot.teams.names))
        held = np.flatnonzero(draft.count > 0)
        asked = resources.dominant(snapshot.shapes.request[jobs.shape], total)
        np.add.at(share, jobs.team[held], asked[held] * draft.count[held])
        queues: dict[int, list[int]] = {}
        for row in waiting(draft).tolist():
            queues.setdefault(int(jobs.team[row]), []).append(row)
        for queue in queues.values():
            queue.reverse()
        while queues:
            team = min(queues, key=lambda team: (share[team] / snapshot.teams.weight[team], team))
            row = queues[team].pop()
            count = self._asked[jobs.names[row]]
            slots = placement.choose(draft, row, count)
            if len(slots) == count:
                draft.take(row, slots, _FURTHEST_BEHIND)
                share[team] += count * asked[row]
            if len(slots) < count or not queues[team]:
                del queues[team]  # its first in line waits, and with it the team
        return draft.plan()


class Static:
    """Dedicated clusters: each service and each team has nodes of its own, first come first served on them.

    A service gets nodes for its peak, as whoever must never fail buys them; each team gets what it is guaranteed,
    or where nothing is guaranteed an equal part of the rest.
    """

    name = "static"

    def __init__(self, trace: Trace) -> None:
        self._asked = asked_sizes(trace)
        self._nodes_of: dict[str | int, BoolArray] = {}
        count = len(trace.nodes.names)
        kind = GPU if trace.total()[GPU] > 0 else CPU
        a_node = np.where(np.isfinite(trace.nodes.capacity[:, kind]), trace.nodes.capacity[:, kind], 1.0)
        order, first = np.arange(count), 0
        peaks: dict[str, float] = {}
        for change in trace.loads:
            peaks[change.service] = max(peaks.get(change.service, 0.0), change.rate)
        services = [task for task in trace.tasks if task.kind == SERVICE]
        for task in services:
            replicas = max(task.minimum, math.ceil(peaks.get(task.name, 0.0) / task.per_replica))
            filled = np.cumsum(a_node[first:]) >= replicas * max(float(task.request[kind]), 1e-9)
            last = first + int(np.argmax(filled)) + 1 if filled.any() else count
            self._nodes_of[task.name] = (order >= first) & (order < last)
            first = last
        self._room = {task.name: math.inf for task in trace.tasks}
        for team, own in _clusters(trace, order[first:], a_node, kind).items():
            self._nodes_of[team] = own
            for task in (task for task in trace.tasks if task.team == team and task.kind != SERVICE):
                if task.request[kind] > 0:
                    self._room[task.name] = math.floor(float(a_node[own].sum()) / float(task.request[kind]))

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft = Draft(snapshot)
        tide.need(draft)
        for row in np.flatnonzero(draft.jobs.kind == SERVICE).tolist():
            lacking = int(draft.need[row] - draft.count[row])
            if lacking > 0:
                self._start(draft, row, lacking, self._nodes_of[draft.jobs.names[row]])
        blocked: set[int] = set()
        for row in self._queue(draft).tolist():
            team = int(draft.jobs.team[row])
            name = draft.jobs.names[row]
            # What is larger than its team's whole cluster runs as small as that, if its owner lets it.
            count = int(max(min(self._asked[name], self._room[name]), draft.jobs.minimum[row]))
            if team not in blocked and self._start(draft, row, count, self._nodes_of[team]) < count:
                blocked.add(team)
        return draft.plan()

    def _queue(self, draft: Draft) -> IntArray:
        return waiting(draft)

    def _start(self, draft: Draft, row: int, count: int, own: BoolArray) -> int:
        """Places on its own nodes only, whole unless it is a service; returns how many replicas fit."""
        free, device_free = draft.free, draft.device_free
        draft.free = np.where(own[:, None], free, 0.0)
        draft.device_free = np.where(own[:, None], device_free, -np.inf)
        try:
            slots = placement.choose(draft, row, count)
        finally:
            draft.free, draft.device_free = free, device_free
        if len(slots) == count or (slots and draft.jobs.kind[row] == SERVICE):
            draft.take(row, slots, _OWN)
        return len(slots)


def _clusters(trace: Trace, left: IntArray, a_node: FloatArray, kind: int) -> dict[int, BoolArray]:
    """team -> (N,) its own of the nodes that are `left`: what it is guaranteed, else an equal part of the rest."""
    teams = sorted({task.team for task in trace.tasks if task.kind != SERVICE})
    guarantee = np.zeros(max(teams, default=0) + 1) if trace.teams is None else trace.teams.guarantee[:, kind]
    found: dict[int, BoolArray] = {}
    for team in teams:
        if guarantee[team] > 0:
            mine = left[: int((np.cumsum(a_node[left]) < guarantee[team]).sum()) + 1]
            found[team] = np.isin(np.arange(len(a_node)), mine)
            left = left[len(mine) :]
    others = [team for team in teams if team not in found]
    for place, team in enumerate(others):
        found[team] = np.isin(np.arange(len(a_node)), left[place :: len(others)])
    return found
