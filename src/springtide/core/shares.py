"""Whose turn it is: class, the team's dominant share over its weight, deadline, least remaining service, bid, time.

Who has waited longer than `patience_s` comes first in its team and class, so that shorter ones cannot pass it for ever.

Jobs that ask for the same (team, shape, replicas) stand in one queue, and of each queue only the head is looked at, so
that thousands who wait for what is not there cost no more than the handful of queues that they form.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from springtide.core import quota, resources
from springtide.core.draft import Draft
from springtide.core.resources import BoolArray, FloatArray, IntArray
from springtide.core.snapshot import GONE, SERVICE

# Time of who has waited too long, slack, service, -bid, time, row: least first.
_Place: TypeAlias = tuple[float, float, float, float, float, int]


def lacking(draft: Draft) -> IntArray:
    """Rows of jobs that have less than they need and may run."""
    rows = np.flatnonzero((draft.jobs.kind != GONE) & (draft.count < draft.need))
    if draft.refused:
        rows = rows[~np.isin(rows, list(draft.refused))]
    return rows


def refills(draft: Draft, rows: IntArray) -> BoolArray:
    """(len(rows),) which of them ran and lost replicas: what ran comes before what did not."""
    found: BoolArray = (draft.count[rows] > 0) & (draft.jobs.kind[rows] != SERVICE)
    return found


def team_share(draft: Draft, held: FloatArray | None = None) -> FloatArray:
    """(T,) dominant share of the pool over the team's weight (DRF, Ghodsi et al., NSDI'11), members below included.

    What was used before counts as the average share over the half-life of the history. `held`: (T, 5) as rolled up.
    """
    teams = draft.snapshot.teams
    above = quota.chains(teams.parent)
    if held is None:
        held = quota.rolled_up(quota.minima(draft), above)
    before = quota.rolled_up(teams.history, above) * math.log(2) / draft.settings.history_half_life_s
    share: FloatArray = (resources.dominant(held, draft.nodes.total()) + before) / np.maximum(teams.weight, 1e-9)
    return share


def remaining_service(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows),) work left times one replica's share of the pool; where it is unknown, what it had so far."""
    jobs = draft.jobs
    asked = resources.dominant(draft.snapshot.shapes.request[jobs.shape[rows]], draft.nodes.total())
    left = np.where(np.isnan(jobs.remaining_s[rows]), jobs.attained_s[rows], jobs.remaining_s[rows])
    service: FloatArray = left * asked
    return service


def slack_s(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows),) seconds that a job could wait and still meet its deadline with what it needs; inf without one."""
    jobs, curves = draft.jobs, draft.snapshot.curves
    size = np.minimum(draft.need[rows], curves.speed.shape[1] - 1)
    speed = np.maximum(curves.speed[jobs.curve[rows], size], 1e-9)
    left = np.where(np.isnan(jobs.remaining_s[rows]), 0.0, jobs.remaining_s[rows]) / speed
    slack: FloatArray = np.where(np.isfinite(jobs.deadline_s[rows]), jobs.deadline_s[rows] - draft.now_s - left, np.inf)
    return slack


def overdue(draft: Draft, rows: IntArray) -> BoolArray:
    """(len(rows),) work that was submitted so long ago that nothing which came later goes before it."""
    jobs = draft.jobs
    late: BoolArray = draft.now_s - jobs.submitted_s[rows] > draft.settings.patience_s
    late &= jobs.kind[rows] != SERVICE  # which is never done, and takes what fits
    late &= np.isnan(jobs.stages[rows]).any(axis=1)  # what takes turns on its GPUs is ordered together
    return late


def _keys(draft: Draft, rows: IntArray) -> tuple[FloatArray | IntArray, ...]:
    """The columns of `_Place`."""
    jobs = draft.jobs
    since = np.where(overdue(draft, rows), jobs.submitted_s[rows], np.inf)
    service = remaining_service(draft, rows)
    return since, slack_s(draft, rows), service, -jobs.bid_core[rows], jobs.submitted_s[rows], rows


@dataclass(slots=True, eq=False)
class Queue:
    """Jobs of one team and class that ask for the same. `waiting` is in reverse: the head stands last."""

    team: int
    shape: int
    count: int  # replicas that each still asks for
    waiting: list[_Place]
    _oldest: tuple[float, int] | None = None

    def oldest(self) -> tuple[float, int]:
        """(time, row) of who was submitted first."""
        if self._oldest is None:
            self._oldest = min(place[-2:] for place in self.waiting)
        return self._oldest

    def pop(self) -> int:
        """The head leaves the queue."""
        row = self.waiting.pop()[-1]
        if self._oldest is not None and self._oldest[1] == row:
            self._oldest = None
        return row

    def head(self) -> int:
        """The row that is first in this queue."""
        return self.waiting[-1][-1]

    def rows(self) -> list[int]:
        """Everybody in it, in order."""
        return [place[-1] for place in reversed(self.waiting)]


class Line:
    """The queues of one class in the order in which their heads are due; teams take turns as their shares grow."""

    def __init__(self, draft: Draft, rows: IntArray, accounts: quota.Quota) -> None:
        teams = draft.snapshot.teams
        self._chains = [chain[::-1] for chain in accounts.chains]
        self._total = draft.nodes.total()
        self._weight = np.maximum(teams.weight, 1e-9)
        one = len(rows) == 0 or bool((draft.jobs.team[rows] == draft.jobs.team[rows[0]]).all())
        self._share = [0.0] * len(teams.names) if one else team_share(draft, accounts.needed).tolist()
        self._queues: dict[int, list[tuple[_Place, int, Queue]]] = {}  # team -> heap of its queues by their heads
        self._teams: list[tuple[list[float], int]] = []  # heap of those with queues; shares grow: a stale key is low
        self._turn = 0
        for queue in queues(draft, rows):
            self.back(queue)

    def pop(self) -> Queue | None:
        """The queue whose head is first in line; it is out of the line until it is put back."""
        while self._teams:
            key, team = heapq.heappop(self._teams)
            queues = self._queues[team]
            now = self._key(team)
            if now > key:
                heapq.heappush(self._teams, (now, team))
                continue
            queue = heapq.heappop(queues)[2]
            if queues:
                heapq.heappush(self._teams, (now, team))
            return queue
        return None

    def back(self, queue: Queue) -> None:
        """Puts a queue back in line, if anybody still stands in it."""
        if queue.waiting:
            self._turn += 1
            queues = self._queues.setdefault(queue.team, [])
            if not queues:
                heapq.heappush(self._teams, (self._key(queue.team), queue.team))
            heapq.heappush(queues, (queue.waiting[-1], self._turn, queue))

    def queues(self) -> list[Queue]:
        """All that stand in line."""
        return [entry[2] for several in self._queues.values() for entry in several]

    def add(self, draft: Draft, rows: IntArray) -> None:
        """Others have come to wait."""
        for queue in queues(draft, rows):
            self.back(queue)

    def served(self, team: int, amount: FloatArray) -> None:
        """A job of the team was admitted: the shares of the team and of those above it grow."""
        grown = float(resources.dominant(amount, self._total))
        for each in self._chains[team]:
            self._share[each] += grown / float(self._weight[each])

    def _key(self, team: int) -> list[float]:
        """Shares from the root down to the team: nested teams are compared at the level where they part."""
        return [self._share[each] for each in self._chains[team]]


def queues(draft: Draft, rows: IntArray) -> list[Queue]:
    """The rows as queues, each in its order."""
    if not len(rows):
        return []
    jobs = draft.jobs
    team, shape, count = jobs.team[rows], jobs.shape[rows], draft.need[rows] - draft.count[rows]
    columns = _keys(draft, rows)
    order = np.lexsort((*columns[::-1], count, shape, team))[::-1]
    places = list(zip(*(column[order].tolist() for column in columns), strict=True))
    kinds = np.stack([team[order], shape[order], count[order]], axis=1)
    begins = np.flatnonzero(np.concatenate([[True], (kinds[1:] != kinds[:-1]).any(axis=1)])).tolist()
    ends = [*begins[1:], len(rows)]
    queues = []
    for begin, end in zip(begins, ends, strict=True):
        team_, shape_, count_ = kinds[begin].tolist()
        queues.append(Queue(team_, shape_, count_, places[begin:end]))
    return queues
