"""The autoscaler of PaddlePaddle EDL (2017) over Kubernetes' scheduler of that time, pod by pod.

Every 5 s it looks at the pods as they are and dry-runs on a copy: jobs in the order of their fulfilment grow by one
while a node fits and CPU stays under 97 % of the total, then shrink from the other end by one while requests exceed
that, until nothing changes. It considers jobs all of whose trainers run, and all jobs while one has none running.
Pods that fit nowhere are tried again after 1 s, then 2, 4, ... at most 60 s (Kubernetes 1.6), first come first served.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np

from springtide.core import Plan, Snapshot
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import CPU, MEMORY, SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import GONE, Slot
from springtide.sim import edl
from springtide.sim.trace import Trace

EVERY_S = 5.0
MOST_CPU = 0.97
FIRST_RETRY_S, LAST_RETRY_S = 1.0, 60.0
_BOUND = Reason("the scheduler found a node")
_SCALED = Reason("the autoscaler asked for {}")


@dataclass(slots=True)
class _Pending:
    """Pods created together that no node has yet."""

    row: int
    count: int
    created_s: float
    next_s: float
    retry_s: float = FIRST_RETRY_S


@dataclass(slots=True)
class _Moving:
    """Pods that are starting, or leaving and still in their place, until then."""

    row: int
    count: int
    until_s: float


class Edl2017:
    """Fixed jobs and services are as many pods as they say; elastic ones as many as the autoscaler asks for."""

    name = "edl-2017"
    period_s = 1.0
    scales = True

    def __init__(self, trace: Trace) -> None:
        self._first = {task.name: self.first_size(trace, task.minimum, task.asked) for task in trace.tasks}
        self._desired: dict[int, int] = {}
        self._names: dict[int, str] = {}
        self._pending: list[_Pending] = []
        self._starting: list[_Moving] = []
        self._leaving: list[_Moving] = []
        self._scaled_s = 0.0
        self._turn = 0  # equal nodes take turns

    def first_size(self, trace: Trace, minimum: int, asked: int) -> int:
        """Trainers that a job is submitted with."""
        return max(minimum, edl.FIRST_TRAINERS.get(trace.name, minimum)) if minimum < asked else asked

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft, now_s = Draft(snapshot), snapshot.now_s
        self._follow(draft)
        for moving in [moving for moving in self._leaving if moving.until_s <= now_s]:
            self._leaving.remove(moving)
            draft.give(moving.row, draft.held(moving.row)[-moving.count :], _SCALED)
        self._starting = [moving for moving in self._starting if moving.until_s > now_s]
        if self.scales and now_s >= self._scaled_s + EVERY_S:
            self._scaled_s = now_s
            self._autoscale(draft)
        self._schedule(draft)
        return draft.plan()

    def _follow(self, draft: Draft) -> None:
        """Jobs that came and went, and owners who asked for other sizes."""
        jobs = draft.jobs
        for row in [row for row, name in self._names.items() if jobs.kind[row] == GONE or jobs.names[row] != name]:
            del self._names[row], self._desired[row]
            self._pending = [pods for pods in self._pending if pods.row != row]
            self._starting, self._leaving = (
                [pods for pods in moving if pods.row != row] for moving in (self._starting, self._leaving)
            )
        for row in draft.snapshot.live().tolist():
            name = jobs.names[row]
            if row not in self._names:
                self._names[row] = name
                self._desired[row] = 0
                self._scale(draft, row, self._first[name])
            if jobs.minimum[row] == jobs.maximum[row] != self._desired[row]:
                self._scale(draft, row, int(jobs.minimum[row]))

    def _scale(self, draft: Draft, row: int, size: int) -> None:
        more = size - self._desired[row]
        self._desired[row] = size
        if more > 0:
            self._pending.append(_Pending(row, more, draft.now_s, draft.now_s))
        for pods in [pods for pods in reversed(self._pending) if pods.row == row and more < 0]:
            dropped = min(-more, pods.count)
            pods.count -= dropped
            more += dropped
        self._pending = [pods for pods in self._pending if pods.count]
        if more < 0:
            self._leaving.append(_Moving(row, -more, draft.now_s + edl.LEAVE_S))

    def _autoscale(self, draft: Draft) -> None:
        jobs = draft.jobs
        elastic = [row for row in self._names if jobs.minimum[row] < jobs.maximum[row]]
        unbound = {row: sum(pods.count for pods in self._pending if pods.row == row) for row in elastic}
        starting = {row: sum(pods.count for pods in self._starting if pods.row == row) for row in elastic}
        blocked = any(unbound[row] == self._desired[row] for row in elastic)
        subject = [row for row in elastic if blocked or unbound[row] + starting[row] == 0]
        for row, change in self._dry_run(draft, subject).items():
            if change:
                self._scale(draft, row, self._desired[row] + change)

    def _dry_run(self, draft: Draft, rows: list[int]) -> dict[int, int]:
        jobs, nodes = draft.jobs, draft.nodes
        free = draft.free.copy()
        total = float(nodes.capacity[:, CPU].sum())
        asked = sum(float(draft.request(row)[CPU]) * desired for row, desired in self._desired.items())
        change = dict.fromkeys(rows, 0)
        span = jobs.maximum - jobs.minimum
        rows = sorted(rows, key=lambda row: (self._desired[row] - jobs.minimum[row]) / span[row])
        changed = True
        while changed:
            changed = False
            for row in rows:
                request = draft.request(row)
                fits = np.flatnonzero(_fits(free, request))
                room = asked + request[CPU] <= MOST_CPU * total
                if len(fits) and room and self._desired[row] + change[row] < jobs.maximum[row]:
                    free[fits[0]] += request
                    asked += float(request[CPU])
                    change[row] += 1
                    changed = True
            for row in reversed(rows):
                if asked > MOST_CPU * total and self._desired[row] + change[row] > jobs.minimum[row]:
                    asked -= float(draft.request(row)[CPU])
                    change[row] -= 1
                    changed = True
        return change

    def _schedule(self, draft: Draft) -> None:
        """Binds pods whose turn it is, first come first served; of those created together one of each job in turns."""
        due = [pods for pods in self._pending if pods.next_s <= draft.now_s]
        free = draft.free.copy()
        bound: dict[int, list[Slot]] = {}
        for _, together in groupby(sorted(due, key=lambda pods: pods.created_s), key=lambda pods: pods.created_s):
            trying = list(together)
            while trying:
                for pods in list(trying):
                    slot = self._bind(draft, pods.row, free, bound.setdefault(pods.row, [])) if pods.count else None
                    if slot is None:
                        trying.remove(pods)
                    else:
                        pods.count -= 1
        for row, slots in bound.items():
            if slots:
                draft.take(row, slots, _BOUND)
                self._starting.append(_Moving(row, len(slots), draft.now_s + edl.START_S))
        for pods in due:
            pods.next_s = draft.now_s + pods.retry_s
            pods.retry_s = min(2 * pods.retry_s, LAST_RETRY_S)
        self._pending = [pods for pods in self._pending if pods.count]

    def _bind(self, draft: Draft, row: int, free: FloatArray, bound: list[Slot]) -> Slot | None:
        request = draft.request(row)
        fits = _fits(free, request)
        if not fits.any():
            return None
        beside = np.bincount([slot.node for slot in (*draft.held(row), *bound)], minlength=len(free))
        score = np.where(fits, _score(free - request, draft.nodes.capacity, beside), -1.0)
        best = np.flatnonzero(score == score.max())
        slot = Slot(int(best[self._turn % len(best)]))
        self._turn += 1
        free[slot.node] -= request
        bound.append(slot)
        return slot


def _score(free: FloatArray, capacity: FloatArray, beside: IntArray) -> FloatArray:
    """(N,) sum of three default priorities of Kubernetes 1.6, each a whole number up to 10.

    Least requested, balanced between CPU and memory, and few pods of the same owner.
    """
    left = free[:, [CPU, MEMORY]] / capacity[:, [CPU, MEMORY]]
    balanced = 10.0 * (1.0 - np.abs(left[:, 0] - left[:, 1]))
    most = int(beside.max())
    spread = 10.0 * (most - beside) / most if most else np.full(len(free), 10.0)
    total: FloatArray = np.floor(10.0 * left).sum(axis=1) // 2 + np.floor(balanced) + np.floor(spread)
    return total


class Edl2017Off(Edl2017):
    """The same without the autoscaler: every job has the trainers that its owner asked for."""

    name = "edl-2017-off"
    scales = False

    def first_size(self, trace: Trace, minimum: int, asked: int) -> int:
        """Trainers that a job is submitted with."""
        return asked


def _fits(free: FloatArray, request: FloatArray) -> BoolArray:
    enough = free[:, [CPU, MEMORY]] >= request[[CPU, MEMORY]] * (1 - SLACK)
    return np.asarray(enough.all(axis=1), dtype=np.bool_)
