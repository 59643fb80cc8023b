"""Plays a trace in virtual time: events move the clock, a policy plans, the world says how fast work gets done."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np

from springtide.core import Cluster, Plan, Snapshot, forward
from springtide.core.curves import prior
from springtide.core.load import Load
from springtide.core.plan import Action, Verb
from springtide.core.resources import FloatArray, IntArray
from springtide.core.snapshot import BATCH, SERVICE, Slot
from springtide.sim.services import Service
from springtide.sim.trace import LoadChange, Outage, Progress, Resize, Task, Trace

_DONE_S = 1e-6  # work of less than a microsecond is done
_GIVE_UP_S = 3600.0  # a play in which nothing happens and nothing changes for so long is over
_ARRAYS = ("left", "rate", "resume_s", "begun_s")


class Policy(Protocol):
    """Who plans: ours, or a rival behind the same interface. With a `period_s` it also plans at multiples of that."""

    name: str

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""


class Recorder(Protocol):
    """Whoever measures is told what happens, in the order of time."""

    def passed(self, play: Play, until_s: float, rows: IntArray, worked: FloatArray) -> None:
        """Nothing changed between `play.now_s` and `until_s`; `rows` hold something and got `worked` done there."""

    def arrived(self, play: Play, row: int) -> None: ...
    def acted(self, play: Play, action: Action, lost_s: float) -> None: ...
    def failed(self, play: Play, row: int, before: tuple[Slot, ...], lost_s: float) -> None: ...
    def finished(self, play: Play, row: int) -> None: ...


class Play:
    """One trace under one policy. Arrays are indexed by the cluster's job rows."""

    def __init__(self, trace: Trace, policy: Policy, recorder: Recorder) -> None:
        self.trace = trace
        self.policy = policy
        self.recorder = recorder
        self.cluster = Cluster(trace.nodes, trace.teams, trace.prices)
        self.now_s = 0.0
        self.tasks: dict[int, Task] = {}  # row -> what runs or waits there
        self.rates: dict[str, float] = {change.service: 0.0 for change in trace.loads}
        self.sizes: dict[str, int] = {}  # task -> replicas that its owner asked for since
        self.services: dict[int, Service] = {}  # row -> what its load needs and what it has of it
        self.left = np.zeros(0)  # work to do
        self.rate = np.zeros(0)  # work done per second
        self.resume_s = np.zeros(0)  # until then the job stands still after a change
        self.begun_s = np.zeros(0)  # when it last began from nothing
        self._over: set[int] = set()  # rows that leave though their work is not done
        self._changed_s = 0.0  # when something last changed
        self._ticks = [every for every in (trace.tick_s, getattr(policy, "period_s", 0.0)) if every > 0]
        self._events: list[tuple[float, int, int, Callable[[], None]]] = []
        self._sequence = 0
        # (node, device) -> rows, where devices are shared in turns
        self._neighbours: dict[tuple[int, int], set[int]] = {}
        self._followers: dict[str, list[str]] = {}
        self._schedule(trace)

    def run(self, progress: Progress = lambda share: None) -> None:
        """Plays to the end."""
        total, done, end_s = max(len(self.trace.tasks), 1), 0, self.trace.end_s
        while (moment := self._next_s()) <= end_s and math.isfinite(moment):
            self._pass_until(moment)
            while self._events and self._events[0][0] <= self.now_s:
                heapq.heappop(self._events)[3]()
                self._changed_s = self.now_s
            done += self._finish()
            if self._is_round():
                self._plan()
            progress(max(done / total, self.now_s / end_s))
        if math.isfinite(end_s):
            self._pass_until(end_s)

    def running(self) -> IntArray:
        """Rows that hold something."""
        found: IntArray = np.flatnonzero(self.cluster.column("running")[: len(self.cluster.names)])
        return found

    def waiting(self) -> int:
        """How many tasks wait with nothing."""
        return len(self.tasks) - len(self.running())

    def _schedule(self, trace: Trace) -> None:
        for task in trace.tasks:
            self._at(task.submit_s, 2, partial(self._arrive, task))
            if task.follows:
                self._followers.setdefault(task.follows, []).append(task.name)
        for change in trace.loads:
            self._at(change.at_s, 1, partial(self._load, change))
        for resize in trace.resizes:
            self._at(resize.at_s, 1, partial(self._resize, resize))
        for outage in trace.outages:
            self._at(outage.at_s, 0, partial(self._fail, outage))
            self._at(outage.back_s, 0, partial(self.cluster.return_node, outage.node))

    def _at(self, moment_s: float, rank: int, what: Callable[[], None]) -> None:
        if math.isfinite(moment_s):
            self._sequence += 1
            heapq.heappush(self._events, (moment_s, rank, self._sequence, what))

    def _next_s(self) -> float:
        """The next moment at which something happens: an event, the end of a job, or a round or tick with tasks."""
        moments = [self._events[0][0]] if self._events else []
        rows = self.running()
        moments.append(forward.next_end_s(self.now_s, self.left[rows], self.rate[rows], self.resume_s[rows]))
        if self.tasks and (any(map(math.isfinite, moments)) or self.now_s < self._changed_s + _GIVE_UP_S):
            for every_s in (*self._ticks, self.trace.round_s):
                if every_s > 0:
                    moments.append((math.floor(self.now_s / every_s + 1e-9) + 1) * every_s)
        return min(moments, default=math.inf)

    def _is_round(self) -> bool:
        every_s = self.trace.round_s
        return not every_s or abs(self.now_s / every_s - round(self.now_s / every_s)) < 1e-9

    def _pass_until(self, moment_s: float) -> None:
        if moment_s <= self.now_s:
            return
        rows = self.running()
        worked = forward.worked(self.now_s, moment_s, self.rate[rows], self.resume_s[rows])
        self.recorder.passed(self, moment_s, rows, worked)
        self.left[rows] -= worked
        held_s = (moment_s - self.now_s) * self.cluster.column("running")[rows]
        self.cluster.column("attained_s")[rows] += held_s
        batch = self.cluster.column("kind")[rows] == BATCH
        if batch.any():
            self.cluster.column("unsaved_s")[rows[batch]] += held_s[batch]
        self.now_s = moment_s

    def _arrive(self, task: Task) -> None:
        minimum = maximum = self.sizes.get(task.name, 0)
        if not minimum:
            minimum, maximum = task.minimum, task.maximum
        speeds = task.speeds if task.curve_known and task.speeds is not None else prior(maximum)
        row = self.cluster.add(
            task.name, kind=task.kind, request=task.request, minimum=minimum, maximum=maximum,
            wishes=task.wishes, prefers=task.prefers, arrange=task.arrange, stages=task.stages,
            speeds=speeds, apart=task.apart if task.curve_known else 1.0,
            load=self._load_of(task), team=task.team, priority=task.priority, submitted_s=self.now_s,
            remaining_s=task.work_s if task.work_known and math.isfinite(task.work_s) else math.nan,
            bid_core=task.bid_core, bid_gpu=task.bid_gpu, deadline_s=task.deadline_s,
        )  # fmt: skip
        self._widen(row + 1)
        self.tasks[row] = task
        self.left[row], self.rate[row], self.resume_s[row] = task.work_s, 0.0, self.now_s
        if task.kind == SERVICE:
            self.services[row] = Service(task.per_replica, minimum, maximum, self.rates.get(task.name))
        self._at(task.leave_s, 0, partial(self._leave, task.name))
        self.recorder.arrived(self, row)

    def _load_of(self, task: Task) -> Load | None:
        if task.kind != SERVICE or task.name not in self.rates:
            return None
        return Load(0.0, task.per_replica, task.headroom, task.pattern).observed(self.rates[task.name], self.now_s)

    def _leave(self, name: str) -> None:
        if (row := self.cluster.rows.get(name)) is not None:
            self._over.add(row)

    def _load(self, change: LoadChange) -> None:
        self.rates[change.service] = change.rate
        row = self.cluster.rows.get(change.service)
        if row is not None:
            self.cluster.loads[row] = self.cluster.loads[row].observed(change.rate, self.now_s)
            self.services[row].rate = change.rate

    def _resize(self, resize: Resize) -> None:
        self.sizes[resize.task] = resize.replicas
        if (row := self.cluster.rows.get(resize.task)) is not None:
            self.cluster.set(row, minimum=resize.replicas, maximum=resize.replicas)
            if (service := self.services.get(row)) is not None:
                service.minimum = service.maximum = resize.replicas

    def _fail(self, outage: Outage) -> None:
        for row, gone in self.cluster.lose_node(outage.node).items():
            before = self.cluster.held[row] + gone
            lost_s = self._lost(row, failed=True)
            self._changed(row, before)
            self.recorder.failed(self, row, before, lost_s)

    def _finish(self) -> int:
        rows = self.running()
        ended = rows[self.left[rows] <= _DONE_S].tolist()
        ended += [row for row in self._over if row in self.tasks and row not in ended]
        self._over.clear()
        for row in ended:
            self._end(row)
        return len(ended)

    def _end(self, row: int) -> None:
        task = self.tasks[row]
        self.recorder.finished(self, row)
        beside = self._beside(row)
        self._forget(row, self.cluster.held[row])
        self.cluster.remove(row)
        self.services.pop(row, None)
        del self.tasks[row]
        for other in beside:
            self._set_rate(other)
        for name in self._followers.get(task.name, ()):
            self._at(self.now_s, 0, partial(self._leave, name))
        self._changed_s = self.now_s

    def _plan(self) -> None:
        rows = self.running()
        remaining = self.cluster.column("remaining_s")
        known = rows[~np.isnan(remaining[rows])]
        remaining[known] = self.left[known]
        plan = self.policy.plan(self.cluster.snapshot(self.now_s))
        before = {action.job: self.cluster.held[action.job] for action in plan.actions}
        self.cluster.apply(plan, self.now_s)
        for action in plan.actions:
            lost_s = self._lost(action.job) if action.verb == Verb.SUSPEND else 0.0
            self._changed(action.job, before[action.job], self.trace.leave_s if action.after else 0.0)
            self.recorder.acted(self, action, lost_s)
        if plan.actions:
            self._changed_s = self.now_s

    def _lost(self, row: int, failed: bool = False) -> float:
        """Work that is undone when a job holds nothing any more: a batch begins anew, training at its checkpoint."""
        task = self.tasks[row]
        if self.cluster.held[row] or not math.isfinite(task.work_s):
            return 0.0
        lost = 0.0
        if task.kind == BATCH:
            lost = task.work_s - float(self.left[row])
        elif failed:
            since_s = max(0.0, self.now_s - max(float(self.begun_s[row]), float(self.resume_s[row])))
            lost = min(since_s % task.checkpoint_s * float(self.rate[row]), task.work_s - float(self.left[row]))
        self.left[row] += lost
        self.cluster.set(row, unsaved_s=0.0)
        if task.work_known:
            self.cluster.set(row, remaining_s=float(self.left[row]))
        return lost

    def _changed(self, row: int, before: tuple[Slot, ...], wait_s: float = 0.0) -> None:
        """The job's slots are others now: so are its speed and that of those beside it, and it stands still a while."""
        task, after = self.tasks[row], self.cluster.held[row]
        beside = self._beside(row, before)
        self._forget(row, before)
        self._note(row, after)
        if after:
            # More replicas of a service start like the first; those that are there go on.
            restart_s = self.trace.world.restart_s(task, () if task.kind == SERVICE else before, after)
            still_s = wait_s + restart_s
            self.cluster.set(row, restart_s=restart_s)  # learnt
            self.resume_s[row] = self.now_s + still_s
            if not before:
                self.begun_s[row] = self.now_s
            if task.kind == SERVICE:
                self._start_replicas(row, len(after) - len(before), still_s)
        elif task.kind == SERVICE:
            self.services[row].hold(0)
        self._set_rate(row)
        for other in beside | self._beside(row):
            self._set_rate(other)

    def _start_replicas(self, row: int, more: int, after_s: float) -> None:
        service = self.services[row]
        service.hold(int(self.cluster.column("running")[row]))
        if more > 0 and after_s > 0:
            self._at(self.now_s + after_s, 0, partial(service.answer, more))
        elif more > 0:
            service.answer(more)

    def _set_rate(self, row: int) -> None:
        held = self.cluster.held[row]
        if self.tasks[row].kind == SERVICE:
            return  # carries load instead of getting work done
        beside = [self.tasks[other] for other in sorted(self._beside(row))]
        self.rate[row] = self.trace.world.rate(self.tasks[row], held, beside) if held else 0.0

    def _beside(self, row: int, slots: tuple[Slot, ...] | None = None) -> set[int]:
        if self.tasks[row].stages is None:
            return set()
        places = _places(self.cluster.held[row] if slots is None else slots)
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
            for name in _ARRAYS:
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros(max(64, len(array), size))]))


def _places(slots: tuple[Slot, ...]) -> list[tuple[int, int]]:
    """(node, device) of every GPU in these slots."""
    return [(slot.node, bit) for slot in slots for bit in range(slot.devices.bit_length()) if slot.devices >> bit & 1]
