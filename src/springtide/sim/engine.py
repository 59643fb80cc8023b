"""Plays a trace in virtual time: events move the clock, a policy plans, the world says how fast work gets done."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from springtide.core import Cluster, Plan, Snapshot
from springtide.core.curves import prior
from springtide.core.load import Load
from springtide.core.plan import Action
from springtide.core.snapshot import SERVICE, Slot
from springtide.sim.trace import LoadChange, Outage, Task, Trace

_DONE_S = 1e-6  # work of less than a microsecond is done


class Policy(Protocol):
    """Who plans: ours, or a rival behind the same interface."""

    name: str

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""


class Recorder(Protocol):
    """Whoever measures is told what happens, in the order of time."""

    def passed(self, play: Play, until_s: float) -> None:
        """Nothing changed between `play.now_s` and `until_s`."""

    def arrived(self, play: Play, row: int) -> None: ...
    def acted(self, play: Play, action: Action, lost_s: float) -> None: ...
    def finished(self, play: Play, row: int) -> None: ...


class Play:
    """One trace under one policy. Arrays are indexed by the cluster's job rows."""

    def __init__(self, trace: Trace, policy: Policy, recorder: Recorder) -> None:
        self.trace = trace
        self.policy = policy
        self.recorder = recorder
        self.cluster = Cluster(trace.nodes, trace.teams)
        self.now_s = 0.0
        self.tasks: dict[int, Task] = {}  # row -> what runs or waits there
        self.rates: dict[str, float] = {change.service: 0.0 for change in trace.loads}
        self.left = np.zeros(0)  # work to do
        self.rate = np.zeros(0)  # work done per second
        self.resume_s = np.zeros(0)  # until then the job stands still after a change
        self._settled_s = 0.0
        self._events: list[tuple[float, int, int, Callable[[], None]]] = []
        self._sequence = 0
        self._neighbours: dict[
            tuple[int, int], set[int]
        ] = {}  # (node, device) -> rows, where devices are shared in turns
        for task in trace.tasks:
            self._at(task.submit_s, 2, partial(self._arrive, task))
        for change in trace.loads:
            self._at(change.at_s, 1, partial(self._load, change))
        for outage in trace.outages:
            self._at(outage.at_s, 0, partial(self._fail, outage))
            self._at(outage.back_s, 0, partial(self.cluster.return_node, outage.node))

    def run(self, progress: Callable[[float], None] = lambda share: None) -> None:
        """Plays to the end; `progress` hears the share of tasks that are done."""
        total, done = max(len(self.trace.tasks), 1), 0
        while (moment := self._next_s()) <= self.trace.end_s and math.isfinite(moment):
            self._pass_until(moment)
            while self._events and self._events[0][0] <= self.now_s:
                heapq.heappop(self._events)[3]()
            done += self._finish()
            if self._is_round():
                self._plan()
            progress(done / total)
        if math.isfinite(self.trace.end_s):
            self._pass_until(self.trace.end_s)

    def running(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Rows that hold something."""
        return np.flatnonzero(self.cluster.column("running")[: len(self.cluster.names)] > 0)

    def _at(self, moment_s: float, rank: int, what: Callable[[], None]) -> None:
        if math.isfinite(moment_s):
            self._sequence += 1
            heapq.heappush(self._events, (moment_s, rank, self._sequence, what))

    def _next_s(self) -> float:
        """The next moment at which something happens: an event, the end of a job, or a round with somebody waiting."""
        moments = [self._events[0][0]] if self._events else []
        rows = self.running()
        if len(rows):
            with np.errstate(divide="ignore"):
                ends = np.maximum(self.resume_s[rows], self.now_s) + self.left[rows] / self.rate[rows]
            moments.append(float(ends.min()))
        every_s = self.trace.round_s
        if every_s and self.tasks:
            moments.append((math.floor(self.now_s / every_s + 1e-9) + 1) * every_s)
        return min(moments, default=math.inf)

    def _is_round(self) -> bool:
        every = self.trace.round_s
        return not every or abs(self.now_s / every - round(self.now_s / every)) < 1e-9

    def _pass_until(self, moment_s: float) -> None:
        self.recorder.passed(self, moment_s)
        rows = self.running()
        worked = np.clip(moment_s - np.maximum(self.resume_s[rows], self.now_s), 0.0, None)
        self.left[rows] -= worked * self.rate[rows]
        self.cluster.column("attained_s")[rows] += (moment_s - self.now_s) * self.cluster.column("running")[rows]
        self.now_s = moment_s

    def _arrive(self, task: Task) -> None:
        speeds = task.speeds if task.curve_known and task.speeds is not None else prior(task.maximum)
        load = Load(self.rates.get(task.name, 0.0), task.per_replica) if task.kind == SERVICE else None
        row = self.cluster.add(
            task.name, kind=task.kind, request=task.request, minimum=task.minimum, maximum=task.maximum,
            wishes=task.wishes, speeds=speeds, stages=task.stages, load=load, team=task.team, priority=task.priority,
            submitted_s=self.now_s, remaining_s=task.work_s if task.work_known else math.nan,
            bid_core=task.bid_core, bid_gpu=task.bid_gpu, deadline_s=task.deadline_s,
        )  # fmt: skip
        self._widen(row + 1)
        self.tasks[row] = task
        self.left[row], self.rate[row], self.resume_s[row] = task.work_s, 0.0, self.now_s
        self._at(task.leave_s, 0, lambda: self._leave(task.name))
        self.recorder.arrived(self, row)

    def _leave(self, name: str) -> None:
        if (row := self.cluster.rows.get(name)) is not None:
            self.left[row] = 0.0

    def _load(self, change: LoadChange) -> None:
        self.rates[change.service] = change.rate
        row = self.cluster.rows.get(change.service)
        if row is not None:
            self.cluster.loads[row] = Load(change.rate, self.tasks[row].per_replica)

    def _fail(self, outage: Outage) -> None:
        for row in self.cluster.lose_node(outage.node):
            self._changed(row, ())

    def _finish(self) -> int:
        rows = np.fromiter(self.tasks, dtype=np.int64, count=len(self.tasks))
        ended = rows[self.left[rows] <= _DONE_S].tolist()
        for row in ended:
            self.recorder.finished(self, row)
            beside = self._beside(row)
            self._forget(row, self.cluster.held[row])
            self.cluster.remove(row)
            del self.tasks[row]
            for other in beside:
                self._set_rate(other)
        return len(ended)

    def _plan(self) -> None:
        rows = self.running()
        known = ~np.isnan(self.cluster.column("remaining_s")[rows])
        self.cluster.column("remaining_s")[rows[known]] = self.left[rows[known]]
        plan = self.policy.plan(self.cluster.snapshot(self.now_s))
        before = {action.job: self.cluster.held[action.job] for action in plan.actions}
        self.cluster.apply(plan, self.now_s)
        for action in plan.actions:
            self.recorder.acted(self, action, 0.0)
            self._changed(action.job, before[action.job])

    def _changed(self, row: int, before: tuple[Slot, ...]) -> None:
        """The job's slots are others now: so are its speed and that of those beside it, and it stands still a while."""
        task, after = self.tasks[row], self.cluster.held[row]
        beside = self._beside(row)
        self._forget(row, before)
        self._note(row, after)
        if after:
            self.resume_s[row] = self.now_s + self.trace.world.restart_s(task, before, after)
        self._set_rate(row)
        for other in beside | self._beside(row):
            self._set_rate(other)

    def _set_rate(self, row: int) -> None:
        held = self.cluster.held[row]
        beside = [self.tasks[other] for other in sorted(self._beside(row))]
        self.rate[row] = self.trace.world.rate(self.tasks[row], held, beside) if held else 0.0

    def _beside(self, row: int) -> set[int]:
        if self.tasks[row].stages is None:
            return set()
        places = _places(self.cluster.held[row])
        return set().union(*(self._neighbours.get(place, set()) for place in places)) - {row} if places else set()

    def _note(self, row: int, slots: tuple[Slot, ...]) -> None:
        if self.tasks[row].stages is not None:
            for place in _places(slots):
                self._neighbours.setdefault(place, set()).add(row)

    def _forget(self, row: int, slots: tuple[Slot, ...]) -> None:
        if self.tasks[row].stages is not None:
            for place in _places(slots):
                self._neighbours.get(place, set()).discard(row)

    def _widen(self, size: int) -> None:
        if size > len(self.left):
            more = np.zeros(max(64, size))
            self.left, self.rate, self.resume_s = (
                np.concatenate([a, more]) for a in (self.left, self.rate, self.resume_s)
            )


def _places(slots: tuple[Slot, ...]) -> list[tuple[int, int]]:
    """(node, device) of every GPU in these slots."""
    return [(slot.node, bit) for slot in slots for bit in range(slot.devices.bit_length()) if slot.devices >> bit & 1]
