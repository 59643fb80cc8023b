"""Rolling a plan forward in time: the same planner, again and again, on a copy of the pool whose clock is set ahead.

`apply` carries out one plan. `next_end_s` and `worked` say how work gets done between two moments, here and in the
simulator. `forecast` says when a job would start and finish, what it would cost and who would shrink for it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from springtide.core import market, planner, tide
from springtide.core.cluster import Cluster
from springtide.core.plan import Plan, Verb
from springtide.core.reasons import Reason, money
from springtide.core.resources import CPU, GPU, FloatArray, IntArray
from springtide.core.snapshot import BATCH, GONE, SERVICE, TRAINING, Snapshot
from springtide.spec.quantities import duration_text

DONE_S = 1e-6  # work of less than a microsecond is done
# Work of unknown length is taken to go on for as long as it has run (Gott, Nature 363, 1993), and at least so long.
UNKNOWN_S = 3600.0
HOUR_S = 3600.0
MOST_PASSES = 400


def apply(snapshot: Snapshot, plan: Plan) -> Snapshot:
    """The pool after the plan, at the same time; the snapshot is left as it is."""
    cluster = Cluster.of(snapshot)
    cluster.apply(plan, snapshot.now_s)
    return cluster.snapshot(snapshot.now_s)


def next_end_s(now_s: float, left: FloatArray, rate: FloatArray, resume_s: FloatArray) -> float:
    """When the first of some jobs is done: `left` work at `rate` per second, standing still until `resume_s`."""
    if not len(left):
        return math.inf
    going = rate > 0
    ends = np.maximum(resume_s, now_s) + np.divide(left, rate, out=np.full(len(left), np.inf), where=going)
    return float(ends.min())


def worked(now_s: float, until_s: float, rate: FloatArray, resume_s: FloatArray) -> FloatArray:
    """Work that jobs get done between two moments."""
    done: FloatArray = np.maximum(until_s - np.maximum(resume_s, now_s), 0.0) * rate
    return done


@dataclass(frozen=True, slots=True)
class Forecast:
    """What would become of one job. Times are on the snapshot's clock; inf where it does not come to that."""

    name: str
    now_s: float
    start_s: float
    finish_s: float
    cost: float  # what a spot job would pay until it is done, or for as far as was looked
    shrinks: tuple[str, ...]  # jobs that would give replicas for its start
    until_s: float  # how far was looked ahead
    reason: Reason | None = None  # why it waits, where it does not start at once
    assumed: bool = False  # whether work of unknown length had to be guessed
    deadline_s: float = math.inf
    known: bool = True  # whether the job's own length is known; else its end is a guess that nobody is told

    def __str__(self) -> str:
        if not math.isfinite(self.start_s):
            return f"{self.name} does not start within {duration_text(self.until_s - self.now_s)}: {self.reason}"
        wait_s = self.start_s - self.now_s
        words = [f"{self.name} starts now" if wait_s <= 0 else f"{self.name} starts in {duration_text(wait_s)}"]
        if math.isfinite(self.finish_s) and self.known:
            words.append(f"finishes in {duration_text(self.finish_s - self.now_s)}")
        words += [f"costs {money(self.cost)}"] if self.cost else []
        words += [f"shrinks {', '.join(self.shrinks)}"] if self.shrinks else []
        guess = f" (work of unknown length taken for what it had so far, at least {duration_text(UNKNOWN_S)})"
        guessed = self.assumed and (wait_s > 0 or self.known)
        return ", ".join(words) + (guess if guessed else "")


def misses(forecast: Forecast) -> str | None:
    """The sentence about a deadline that would be missed; None where it is met, or none is set."""
    if not math.isfinite(forecast.deadline_s) or forecast.finish_s <= forecast.deadline_s:
        return None
    due_s = forecast.deadline_s - forecast.now_s
    when = f"is in {duration_text(due_s)}" if due_s > 0 else "has passed"
    if math.isfinite(forecast.finish_s):
        late = duration_text(forecast.finish_s - forecast.deadline_s)
        return f"{forecast.name}: its deadline {when}; by this forecast it finishes {late} later"
    ahead = duration_text(forecast.until_s - forecast.now_s)
    return f"{forecast.name}: its deadline {when}; by this forecast it is not done within {ahead}"


def forecast(snapshot: Snapshot, job: int, most_passes: int = MOST_PASSES) -> Forecast:
    """Runs the planner forward until the job in this row is done, if that takes no more than so many passes."""
    return _Ahead(snapshot, job).look(most_passes)


class _Ahead:
    """A copy of the pool in virtual time, with one job watched."""

    def __init__(self, snapshot: Snapshot, job: int) -> None:
        self.begun_s = self.now_s = snapshot.now_s
        self.job = job
        self.cluster = Cluster.of(snapshot)
        jobs = snapshot.jobs
        unknown = np.isnan(jobs.remaining_s)
        finite = (jobs.kind == TRAINING) | (jobs.kind == BATCH)
        guess = np.where(finite, np.maximum(jobs.attained_s, UNKNOWN_S), np.inf)
        self.left: FloatArray = np.where(unknown, guess, jobs.remaining_s)
        self.whole: FloatArray = self.left + jobs.unsaved_s
        self.known = ~unknown
        self.assumed = bool((unknown & finite & (jobs.kind != GONE)).any())
        self.resume_s: FloatArray = np.full(len(self.left), -np.inf)
        self.start_s = self.begun_s if jobs.running[job] > 0 else math.inf
        self.shrinks: tuple[str, ...] = ()
        self.reason: Reason | None = None
        self.cost = 0.0

    def look(self, most_passes: int) -> Forecast:
        """Plan, carry out, move on to the next moment at which something can change; until the job is done."""
        name = self.cluster.names[self.job]
        deadline_s = float(self.cluster.column("deadline_s")[self.job])
        finish_s = math.inf
        for _ in range(most_passes):
            self._plan()
            moment_s = self._next_s()
            if not math.isfinite(moment_s):
                break
            if self._pass_until(moment_s):
                finish_s = self.now_s
                break
        return Forecast(
            name, self.begun_s, self.start_s, finish_s, self.cost, self.shrinks, self.now_s, self.reason,
            self.assumed, deadline_s, bool(self.known[self.job]),
        )  # fmt: skip

    def _plan(self) -> None:
        cluster = self.cluster
        for row, load in cluster.loads.items():
            if self.now_s > self.begun_s and (expected := load.soon(self.now_s, self.now_s)) > 0:
                cluster.loads[row] = replace(load, rate=expected)
        plan = planner.plan(cluster.snapshot(self.now_s))
        restart_s = cluster.column("restart_s")
        cluster.apply(plan, self.now_s)
        for action in plan.actions:
            self.resume_s[action.job] = self.now_s + (restart_s[action.job] if action.verb != Verb.START else 0.0)
            if action.verb == Verb.SUSPEND and cluster.column("kind")[action.job] == BATCH:
                self.left[action.job] = self.whole[action.job]
        if self.job in plan.waits and self.reason is None:
            self.reason = plan.waits[self.job]
        if not math.isfinite(self.start_s) and cluster.held[self.job]:
            self.start_s = self.now_s
            gave = [action for action in plan.actions if len(action.removed) > len(action.added)]
            self.shrinks = tuple(cluster.names[action.job] for action in gave)

    def _next_s(self) -> float:
        rows = self._running()
        snapshot = self.cluster.snapshot(self.now_s)
        jobs, moments = snapshot.jobs, []
        moments.append(next_end_s(self.now_s, self.left[rows], self._rate(rows), self.resume_s[rows]))
        if math.isfinite(fall_s := tide.next_fall_s(snapshot)):
            # What a pattern does within an hour moves no forecast by more than that.
            moments.append(max(fall_s, self.now_s + 0.1 * HOUR_S))
        spot = (jobs.priority == market.SPOT) & (jobs.kind != GONE)
        if (spot & (jobs.running < jobs.minimum)).any():
            tick_s = snapshot.settings.price_tick_s
            moments.append((math.floor(self.now_s / tick_s + 1e-9) + 1) * tick_s)
        return min(moments)

    def _pass_until(self, moment_s: float) -> bool:
        """Time passes, and who is done leaves; says whether the watched job is among them."""
        rows = self._running()
        rate = self._rate(rows)
        self._pay(moment_s)
        self.left[rows] -= worked(self.now_s, moment_s, rate, self.resume_s[rows])
        cluster = self.cluster
        cluster.column("attained_s")[rows] += (moment_s - self.now_s) * cluster.column("running")[rows]
        known = rows[self.known[rows]]
        cluster.column("remaining_s")[known] = np.maximum(self.left[known], 0.0)
        self.now_s = moment_s
        done = rows[self.left[rows] <= DONE_S].tolist()
        for row in done:
            cluster.remove(row)
        return self.job in done

    def _pay(self, moment_s: float) -> None:
        cluster, prices = self.cluster, self.cluster.prices
        if cluster.column("priority")[self.job] == market.SPOT:
            snapshot = cluster.snapshot(self.now_s)
            request = snapshot.shapes.request[snapshot.jobs.shape[self.job]]
            each = request[CPU] * prices.core + request[GPU] * prices.gpu
            self.cost += float(each * len(cluster.held[self.job])) * (moment_s - self.now_s) / 3600.0

    def _running(self) -> IntArray:
        kind, running = self.cluster.column("kind"), self.cluster.column("running")
        return np.flatnonzero((kind != GONE) & (kind != SERVICE) & (running > 0))

    def _rate(self, rows: IntArray) -> FloatArray:
        jobs, curves = self.cluster, self.cluster.curves.table()
        size = np.minimum(jobs.column("running")[rows], curves.speed.shape[1] - 1)
        rate: FloatArray = curves.speed[jobs.column("curve")[rows], size]
        return rate
