"""What a play is measured by. docs/simulator.md says each metric in words; percent and seconds throughout."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from springtide.core import resources
from springtide.core.plan import Action, Verb
from springtide.core.resources import CPU, GPU, FloatArray, IntArray
from springtide.core.snapshot import BATCH, KIND_NAMES, SERVICE, TRAINING, Slot
from springtide.sim.engine import Play
from springtide.sim.timeline import Timeline
from springtide.sim.trace import Trace

TRIAL_S = 10.0  # a trial that begins within it has not made its owner wait
UNITS = {  # of every metric, in the order in which they are shown
    "average_completion": "s", "median_completion": "s", "p99_completion": "s", "average_wait": "s", "makespan": "s",
    "gpu_allocated_at_100": "%", "gpu_allocated_at_130": "%",
    "cpu_requested": "%", "gpu_allocated": "%", "gpu_used": "%", "cpu_allocated": "%", "cpu_used": "%",
    "queued_while_idle": "gpu", "queued_while_it_fits": "gpu", "idle": "gpu",
    "jain_index": "", "preemptions": "", "lost_work": "replica-s",
    "service_shortfall": "replica-s", "service_restored_after": "s", "service_answering_after": "s",
    "core_price": "per core-hour", "gpu_price": "per gpu-hour", "revenue": "",
    "jobs_at_once": "jobs", "teams_at_once": "teams", "trials_started_in_10s": "%", "peak_waiting": "jobs",
    "unfinished": "jobs",
}  # fmt: skip


@dataclass(slots=True)
class _Job:
    """What is noted of one task while it is there."""

    counted: bool  # whether it is a job of its own: one that follows another is not
    finite: bool  # whether its waiting and completion count
    asked: float  # dominant share of the pool that its owner asked for
    share: float  # of one replica
    begun: bool = False
    idle_since_s: float = 0.0
    waited_s: float = 0.0


@dataclass(slots=True)
class _Sums:
    """Integrals over time, of shares over the window, of the rest over the whole play."""

    window_s: float = 0.0
    held: FloatArray = field(default_factory=lambda: np.zeros(resources.COUNT))  # over the window
    used: FloatArray = field(default_factory=lambda: np.zeros(resources.COUNT))
    whole_s: float = 0.0
    jobs: float = 0.0
    teams: float = 0.0
    core_price: float = 0.0
    gpu_price: float = 0.0
    revenue: float = 0.0
    shortfall: float = 0.0
    queued_while_idle: float = 0.0
    queued_while_it_fits: float = 0.0
    idle: float = 0.0


class Record:
    """Listens to one play (`engine.Recorder`) and says its metrics at the end."""

    def __init__(self, trace: Trace) -> None:
        teams = len(trace.teams.names) if trace.teams is not None else 1
        self._trace = trace
        self._total = np.where(np.isfinite(trace.total()), trace.total(), 0.0)
        submitted = [task.submit_s for task in trace.tasks]
        self._begin_s = min(submitted, default=0.0)
        self._window = trace.window_s or (self._begin_s, max(submitted, default=0.0))
        if self._window[1] <= self._window[0]:
            self._window = (self._begin_s, math.inf)
        self._held: FloatArray = np.zeros((len(KIND_NAMES), resources.COUNT))
        self._spot: FloatArray = np.zeros(resources.COUNT)
        self._requests: FloatArray = np.zeros((64, resources.COUNT))  # by job row
        self._team_held, self._team_got, self._team_asked, self._team_wanted = (np.zeros(teams) for _ in range(4))
        self._team_jobs: IntArray = np.zeros(teams, dtype=np.int64)
        self._jobs: dict[int, _Job] = {}
        self._lacks: dict[int, float] = {}  # row -> GPUs that it waits for with nothing
        self._there = self._running = 0
        self._sums = _Sums()
        self._completions: list[float] = []
        self._waits: list[float] = []
        self._trials = [0, 0]  # begun in time, all
        self._preemptions = 0
        self._lost = 0.0
        self._short_since: dict[tuple[int, str], float] = {}
        self._longest = {"held": 0.0, "ready": 0.0}
        self._peak_waiting = 0
        self._last_s = self._begin_s
        self.main = GPU if self._total[GPU] > 0 else CPU
        self.timeline = Timeline(len(KIND_NAMES) + 2)

    # What happens.

    def passed(self, play: Play, until_s: float, rows: IntArray, worked: FloatArray) -> None:
        """Time went by: integrals grow."""
        span_s, sums = until_s - play.now_s, self._sums
        begin_s = max(play.now_s, self._window[0])
        inside_s = min(until_s, self._window[1]) - begin_s
        effective = worked @ self._requests[rows]
        for row, service in play.services.items():
            effective = effective + service.carried * self._requests[row] * span_s
            if inside_s > 0:
                self._watch(row, service.held < service.need, "held", begin_s, begin_s + inside_s)
                self._watch(row, service.ready < service.need, "ready", begin_s, begin_s + inside_s)
                sums.shortfall += max(0, service.need - service.ready) * inside_s
        held = self._held.sum(axis=0)
        if inside_s > 0:
            sums.window_s += inside_s
            sums.held += held * inside_s
            sums.used += effective * (inside_s / span_s)
            idle = max(0.0, float(self._total[GPU] - held[GPU]))
            sums.idle += idle * inside_s
            if self._lacks and idle:
                sums.queued_while_idle += min(sum(self._lacks.values()), idle) * inside_s
                fitting = sum(gpus for gpus in self._lacks.values() if gpus <= idle)
                sums.queued_while_it_fits += min(fitting, idle) * inside_s
        waiting = self._there - self._running
        self._peak_waiting = max(self._peak_waiting, waiting)
        prices = play.cluster.prices
        sums.whole_s += span_s
        sums.jobs += self._running * span_s
        sums.teams += int((self._team_jobs > 0).sum()) * span_s
        sums.core_price += prices.core * span_s
        sums.gpu_price += prices.gpu * span_s
        sums.revenue += (self._spot[CPU] * prices.core + self._spot[GPU] * prices.gpu) * span_s / 3600.0
        self._team_got += self._team_held * span_s
        self._team_wanted += self._team_asked * span_s
        by_kind = self._held[:, self.main]
        used = effective[self.main] / span_s
        self.timeline.add(play.now_s, until_s, np.concatenate([by_kind, [used, waiting]]))

    def arrived(self, play: Play, row: int) -> None:
        """A task was submitted."""
        task = play.tasks[row]
        if row >= len(self._requests):
            self._requests = np.concatenate([self._requests, np.zeros((row + 64, resources.COUNT))])
        self._requests[row] = task.request
        share = float(resources.dominant(task.request, self._total))
        counted = not task.follows
        finite = math.isfinite(task.work_s) and task.kind in (TRAINING, BATCH) and counted
        asked = max(task.minimum, task.asked) * share
        self._jobs[row] = _Job(counted, finite, asked, share, idle_since_s=play.now_s)
        self._team_asked[task.team] += asked
        self._there += counted
        self._lacks[row] = float(task.request[GPU] * task.minimum)
        self._trials[1] += task.trial

    def acted(self, play: Play, action: Action, lost_s: float) -> None:
        """An action of a plan was carried out."""
        before = len(play.cluster.held[action.job]) - len(action.added) + len(action.removed)
        self._preemptions += action.verb == Verb.SUSPEND
        self._resized(play, action.job, before)
        self._lost += lost_s

    def failed(self, play: Play, row: int, before: tuple[Slot, ...], lost_s: float) -> None:
        """A node took some of its replicas along."""
        self._resized(play, row, len(before))
        self._lost += lost_s

    def finished(self, play: Play, row: int) -> None:
        """A task is over, and still holds what it held."""
        task, job = play.tasks[row], self._jobs[row]
        held = len(play.cluster.held[row])
        self._count(play, row, -held)
        if not held:
            job.waited_s += play.now_s - job.idle_since_s
        else:
            self._running -= job.counted
            self._team_jobs[task.team] -= 1
        self._there -= job.counted
        self._team_asked[task.team] -= job.asked
        if job.finite:
            self._completions.append(play.now_s - task.submit_s)
            self._waits.append(job.waited_s)
            self._last_s = play.now_s
        self._lacks.pop(row, None)
        del self._jobs[row]
        for which in self._longest:
            self._short_since.pop((row, which), None)

    def _resized(self, play: Play, row: int, before: int) -> None:
        task, job, after = play.tasks[row], self._jobs[row], len(play.cluster.held[row])
        self._count(play, row, after - before)
        if after and not before:
            self._lacks.pop(row, None)
            job.waited_s += play.now_s - job.idle_since_s
            if not job.begun and task.trial and play.now_s - task.submit_s <= TRIAL_S:
                self._trials[0] += 1
            job.begun = True
            self._running += job.counted
            self._team_jobs[task.team] += 1
        elif before and not after:
            job.idle_since_s = play.now_s
            self._lacks[row] = float(task.request[GPU] * task.minimum)
            self._running -= job.counted
            self._team_jobs[task.team] -= 1

    def _count(self, play: Play, row: int, more: int) -> None:
        task = play.tasks[row]
        change = more * task.request
        self._held[task.kind] += change
        self._team_held[task.team] += more * self._jobs[row].share
        if task.priority == 0:
            self._spot += change

    def _watch(self, row: int, short: bool, which: str, now_s: float, until_s: float) -> None:
        if short:
            since_s = self._short_since.setdefault((row, which), now_s)
            self._longest[which] = max(self._longest[which], until_s - since_s)
        else:
            self._short_since.pop((row, which), None)

    # What it comes to.

    def metrics(self, play: Play) -> dict[str, float]:
        """Every metric that means something for this trace."""
        found = self._times(play) | self._shares() | self._services(play)
        sums, trace = self._sums, self._trace
        whole_s = max(sums.whole_s, 1e-9)
        found |= {"preemptions": float(self._preemptions), "lost_work": self._lost}
        found |= {"jobs_at_once": sums.jobs / whole_s, "peak_waiting": float(self._peak_waiting)}
        if len(self._team_got) > 1:
            had = self._team_got[self._team_wanted > 0] / self._team_wanted[self._team_wanted > 0]
            squares = len(had) * float((had**2).sum())
            found["jain_index"] = float(had.sum()) ** 2 / squares if squares > 0 else math.nan
            found["teams_at_once"] = sums.teams / whole_s
        if any(task.priority == 0 for task in trace.tasks):
            found |= {"core_price": sums.core_price / whole_s, "gpu_price": sums.gpu_price / whole_s}
            found["revenue"] = sums.revenue
        if self._trials[1]:
            found["trials_started_in_10s"] = 100.0 * self._trials[0] / self._trials[1]
        return {name: found[name] for name in UNITS if name in found and math.isfinite(found[name])}

    def _times(self, play: Play) -> dict[str, float]:
        left = [job for job in self._jobs.values() if job.finite]
        waits = self._waits + [
            job.waited_s + (0.0 if play.cluster.held[row] else play.now_s - job.idle_since_s)
            for row, job in self._jobs.items()
            if job.finite
        ]
        found = {"average_wait": float(np.mean(waits))} if waits else {}
        if self._completions:
            done = np.array(self._completions)
            found["average_completion"] = float(done.mean())
            found["median_completion"] = float(np.median(done))
            found["p99_completion"] = float(np.percentile(done, 99))
            found["makespan"] = self._last_s - self._begin_s
        if left:
            found["unfinished"] = float(len(left))
        return found

    def _shares(self) -> dict[str, float]:
        found, span_s = {}, self._sums.window_s
        for name, kind in (("gpu", GPU), ("cpu", CPU)):
            if self._total[kind] > 0 and span_s > 0:
                whole = self._total[kind] * span_s / 100.0
                found[f"{name}_allocated"] = self._sums.held[kind] / whole
                found[f"{name}_used"] = self._sums.used[kind] / whole
        if self._trace.window_s is not None and "cpu_allocated" in found:
            found["cpu_requested"] = found["cpu_allocated"]
        if self._total[GPU] > 0 and span_s > 0:
            found["queued_while_idle"] = self._sums.queued_while_idle / span_s
            found["queued_while_it_fits"] = self._sums.queued_while_it_fits / span_s
            found["idle"] = self._sums.idle / span_s
        return found

    def _services(self, play: Play) -> dict[str, float]:
        if not any(task.kind == SERVICE for task in self._trace.tasks):
            return {}
        return {
            "service_shortfall": self._sums.shortfall,
            "service_restored_after": self._longest["held"],
            "service_answering_after": self._longest["ready"],
        }
