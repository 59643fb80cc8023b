"""The planner's columns, kept in step with the records: what did not change since the last round costs nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from springtide.core import curves, intake, lag, market
from springtide.core.cluster import Cluster
from springtide.core.forward import Forecast, forecast
from springtide.core.load import Load
from springtide.core.plan import Action, Plan
from springtide.core.resources import FloatArray
from springtide.core.snapshot import Slot, Snapshot
from springtide.engines.engine import LoadSeen
from springtide.pool import lifecycle
from springtide.pool.records import JobRecord, ReplicaRecord, Step, Wish
from springtide.spec.job import Job, Kind
from springtide.spec.quantities import Range
from springtide.spec.sharing import Pool

FRESH_S = 90.0  # for which a measured speed counts
CPU_TARGET = 0.7  # of its cores, at which a service that does not count its requests is taken to be full


@dataclass(frozen=True, slots=True)
class _Known:
    """What a row was made of; when it is something else, the row is made anew."""

    job: Job
    size: tuple[int, int]
    learned: tuple[Any, ...]


class Picture:
    """The pool as a `Cluster`. What the market and fairness remember between rounds is read and put back by `money`."""

    def __init__(self, pool: Pool, drained: Iterable[str] = (), learns_speeds: bool = True) -> None:
        self.pool = pool
        self.cluster = intake.make_cluster(pool)
        self._nodes = {name: row for row, name in enumerate(self.cluster.nodes.names)}
        self._rows: dict[str, int] = {}  # job id -> row
        self._ids: dict[int, str] = {}  # row -> job id
        self._known: dict[str, _Known] = {}
        self._loads: dict[str, Load] = {}  # of services, also while they are not planned or their size is set by hand
        self._going: dict[int, tuple[int, float]] = {}  # row of a batch -> its replicas that run, sum of their starts
        self._learns_speeds = learns_speeds
        for name in drained:
            if name in self._nodes:
                self.cluster.nodes.alive[self._nodes[name]] = False

    def row(self, job_id: str) -> int | None:
        """The planner's row of a job; None where it is not planned now."""
        return self._rows.get(job_id)

    def job(self, row: int) -> str:
        """The id of the job in a row."""
        return self._ids[row]

    def sync(self, record: JobRecord, now_s: float, settling: bool = False) -> None:
        """Takes over what a record says. `settling`: training that runs does not grow yet."""
        if not plannable(record, now_s):
            self.remove(record.id)
            return
        size = _as_it_is(record) if settling else lifecycle.size_left(record)
        known = _Known(record.job, size, self._learned(record, now_s))
        row = self.row(record.id)
        if row is None or self._known[record.id] != known:
            row = self._add(record, known)
        self._hold(row, record)
        self._measure(row, record, now_s)

    def remove(self, job_id: str) -> None:
        """The job is not planned."""
        row = self._rows.pop(job_id, None)
        if row is not None:
            self._note_load(job_id, row)
            self.cluster.remove(row)
            del self._known[job_id], self._ids[row]
            self._going.pop(row, None)

    def forget(self, job_id: str) -> None:
        """The job is over."""
        self.remove(job_id)
        self._loads.pop(job_id, None)

    def observed(self, record: JobRecord, load: LoadSeen | None, now_s: float) -> None:
        """A service's load was measured."""
        row = self.row(record.id)
        if row is None or load is None or row not in self.cluster.loads:
            return
        before = self.cluster.loads[row]
        if load.behind is not None and record.job.lag is not None:
            replicas, why = lag.needed(load.behind, record.job.lag)
            self.cluster.loads[row] = replace(before, why=why).observed(replicas, now_s)
            return
        carries = per_replica(record.job, load.unit)
        if carries is not None:
            self.cluster.loads[row] = replace(before, per_replica=carries).observed(load.rate, now_s)

    def loads(self) -> Mapping[str, Load]:
        """Job id -> a service's load as it is known: to be kept."""
        for job_id, row in self._rows.items():
            self._note_load(job_id, row)
        return self._loads

    def remember_load(self, job_id: str, load: Load) -> None:
        """A service's load as it was known before a restart; told before the job is planned."""
        self._loads[job_id] = load

    def _note_load(self, job_id: str, row: int) -> None:
        if row in self.cluster.loads:
            self._loads[job_id] = self.cluster.loads[row]

    def snapshot(self, now_s: float) -> Snapshot:
        """What would be lost is that of this moment, also of jobs that were not looked at since."""
        if self._going:
            counts, starts_s = np.array(list(self._going.values())).T
            self.cluster.column("unsaved_s")[list(self._going)] = counts * now_s - starts_s
        return self.cluster.snapshot(now_s)

    def frozen(self, now_s: float) -> Snapshot:
        """A snapshot that later rounds do not touch, for other threads."""
        return self.cluster.frozen(now_s)

    def request(self, job_id: str) -> FloatArray | None:
        """(5,) what one replica of the job asks for."""
        row = self.row(job_id)
        if row is None:
            return None
        shapes = self.cluster.snapshot(0.0).shapes
        request: FloatArray = shapes.request[self.cluster.column("shape")[row]]
        return request

    def money(self) -> dict[str, Any]:
        """What teams have spent, what they had, and the tick's prices: to be kept."""
        teams, prices = self.cluster.teams, self.cluster.prices
        count = len(teams.names)
        spent = np.broadcast_to(teams.spent, count).tolist()
        return {
            "spent": dict(zip(teams.names, spent, strict=True)),
            "history": dict(zip(teams.names, teams.history.tolist(), strict=True)),
            "core": prices.core, "gpu": prices.gpu, "tick": prices.tick, "revenue": prices.revenue,
        }  # fmt: skip

    def remember_money(self, kept: Mapping[str, Any], history: Sequence[tuple[float, float, float]]) -> None:
        """Puts back what `money` said, and the prices of the past."""
        cluster, names = self.cluster, self.cluster.teams.names
        spent = np.array([kept.get("spent", {}).get(name, 0.0) for name in names], dtype=np.float64)
        before = np.array([kept.get("history", {}).get(name, 0.0) for name in names], dtype=np.float64)
        cluster.teams = replace(cluster.teams, spent=spent, history=before)
        past = market.History(*(np.array(column) for column in zip(*history, strict=True))) if history else None
        cluster.prices = replace(
            cluster.prices, core=kept.get("core", cluster.prices.core), gpu=kept.get("gpu", cluster.prices.gpu),
            tick=kept.get("tick", -1), revenue=kept.get("revenue", 0.0), history=past or cluster.prices.history,
        )  # fmt: skip

    # --- rows

    def _add(self, record: JobRecord, known: _Known) -> int:
        self.remove(record.id)
        job = replace(
            record.job, replicas=Range(max(known.size[0], 1), max(known.size[1], 1)),
            microbatches=record.learned.get("microbatches", record.job.microbatches),
        )  # fmt: skip
        if record.pinned:
            job = replace(job, load=None, lag=None)  # its owner says how many, not its load
        row = intake.add_job(self.cluster, job, record.submitted_s)
        if (speeds := self._speeds(known, job)) is not None:
            self.cluster.set(row, curve=self.cluster.curves.add(speeds))
        if record.id in self._loads and row in self.cluster.loads:
            self.cluster.loads[row] = replace(self.cluster.loads[row], **_measured(self._loads[record.id]))
        self._rows[record.id], self._ids[row], self._known[record.id] = row, record.id, known
        return row

    def _hold(self, row: int, record: JobRecord) -> None:
        slots = tuple(self._slot(one) for one in record.replicas if one.step != Step.STOPPING)
        held = self.cluster.held[row]
        if slots != held:
            self.cluster.release(row, held)
            self.cluster.hold(row, slots)

    def _slot(self, replica: ReplicaRecord) -> Slot:
        return Slot(self._nodes.get(replica.node, 0), sum(1 << device for device in replica.devices))

    def _measure(self, row: int, record: JobRecord, now_s: float) -> None:
        job = record.job
        held = sum(one.step != Step.STOPPING for one in record.replicas)
        started = [one.since_s for one in record.replicas if one.step == Step.STARTED]
        had_s = sum(now_s - since_s for since_s in started)
        if job.kind == Kind.BATCH and started:
            self._going[row] = len(started), sum(started)
        else:
            self._going.pop(row, None)
        self.cluster.set(
            row,
            started_s=math.nan if record.started_s is None else record.started_s,
            suspended_s=-math.inf if record.suspended_s is None else record.suspended_s,
            resized_s=-math.inf if record.resized_s is None else record.resized_s,
            attained_s=record.attained_s + had_s,
            unsaved_s=had_s if job.kind == Kind.BATCH else 0.0,
            remaining_s=_remaining_s(record, had_s if held else 0.0),
        )

    def _learned(self, record: JobRecord, now_s: float) -> tuple[Any, ...]:
        speeds = tuple(sorted(_fresh(record, now_s).items())) if self._learns_speeds else ()
        return (record.learned.get("microbatches"), speeds, record.pinned)

    def _speeds(self, known: _Known, job: Job) -> FloatArray | None:
        """(maximum + 1,) learnt seconds of a step as speeds; what was not measured follows the microbatches."""
        seconds: dict[int, float] = dict(known.learned[1])
        if not seconds or job.kind != Kind.TRAINING:
            return None
        most = job.replicas.maximum
        shape = curves.of_microbatches(job.microbatches, most) if job.microbatches else curves.prior(most)
        return learnt_speeds(seconds, shape)

    # --- plans

    def places(self, action: Action) -> tuple[list[tuple[str, tuple[int, ...]]], list[tuple[str, tuple[int, ...]]]]:
        """Node and devices of what an action adds, and of what it takes."""
        return [self._place(slot) for slot in action.added], [self._place(slot) for slot in action.removed]

    def apply(self, plan: Plan, now_s: float) -> None:
        """The columns after the plan; teams are charged."""
        self.cluster.apply(plan, now_s)

    def _place(self, slot: Slot) -> tuple[str, tuple[int, ...]]:
        bits = slot.devices
        return self.cluster.nodes.names[slot.node], tuple(at for at in range(bits.bit_length()) if bits >> at & 1)


def plannable(record: JobRecord, now_s: float) -> bool:
    """Whether the planner is to know of the job now: not while it is over, unwanted, failed, or backs off."""
    if record.state.over or record.wish != Wish.RUN or record.learned.get("verdict"):
        return False
    if lifecycle.size_left(record)[1] < 1:
        return False
    backs_off = now_s < record.retry_at_s <= now_s + lifecycle.LAST_RETRY_S  # further away: the clock was set back
    return not backs_off or any(one.step != Step.STOPPING for one in record.replicas)


def _as_it_is(record: JobRecord) -> tuple[int, int]:
    """Between how many replicas it may have while loads are unknown: training grows not; services, and streams
    that follow their lag, shrink not.
    """
    least, most = lifecycle.size_left(record)
    held = sum(one.step != Step.STOPPING for one in record.replicas)
    if record.job.kind == Kind.TRAINING and held:
        return least, max(least, min(most, held))
    follows = record.job.load if record.job.kind == Kind.SERVICE else record.job.lag
    if follows and not record.pinned:
        return max(least, min(most, held)), most
    return least, most


def per_replica(job: Job, unit: str) -> float | None:
    """What one replica carries, in the unit that was measured; None where the job has no load."""
    if job.load is None:
        return None
    if unit == "requests":
        return job.load.requests_per_second
    return (job.load.cpu or CPU_TARGET) * job.resources.cpu or None


def _fresh(record: JobRecord, now_s: float) -> dict[int, float]:
    """Seconds of a step by workers, as measured of late: neighbours change, and an old figure says nothing of now."""
    found: dict[str, list[float]] = record.learned.get("step_s", {})
    return {int(size): each[0] for size, each in found.items() if abs(now_s - each[1]) < FRESH_S}


def learnt_speeds(step_s: Mapping[int, float], shape: FloatArray) -> FloatArray:
    """(maximum + 1,) relative to one worker: measured where measured, else the nearest measured one times `shape`.

    Nobody is faster than `shape`, the best that so many workers can do: what seems so was measured at other times.
    """
    speeds = np.zeros(len(shape))
    for size in range(1, len(shape)):
        near = min(step_s, key=lambda known: (abs(known - size), known))
        speeds[size] = shape[size] / shape[min(near, len(shape) - 1)] / step_s[near]
    if len(speeds) < 2 or speeds[1] <= 0:
        return shape
    best: FloatArray = np.minimum(speeds / speeds[1], shape / shape[1])
    return best


def _remaining_s(record: JobRecord, had_s: float) -> float:
    """Seconds of one replica that are left, where that is known."""
    work, learned = record.job.work, record.learned
    if work is not None and work.seconds is not None:
        return max(work.seconds - had_s, 0.0) if record.job.kind == Kind.BATCH else work.seconds
    steps, speeds = learned.get("steps"), learned.get("step_s")
    if record.job.kind != Kind.TRAINING or not steps or not speeds:
        return math.nan
    size, (seconds, _) = min(speeds.items(), key=lambda one: int(one[0]))
    alone_s = float(seconds) * float(int(size) ** curves.PRIOR_EXPONENT)
    return max(int(steps) - int(learned.get("step", 0)), 0) * alone_s


def _measured(load: Load) -> dict[str, Any]:
    """What of a load was measured, not said."""
    names = ("rate", "per_replica", "usual", "level", "scale", "bin", "peak", "recent")
    return {name: getattr(load, name) for name in names}


def what_if(snapshot: Snapshot, jobs: Sequence[Job]) -> list[Forecast]:
    """Forecasts of jobs that are not there, each as if all of them came now."""
    cluster = Cluster.of(snapshot)
    rows = []
    for job in jobs:
        if job.name in cluster.rows:
            cluster.remove(cluster.rows[job.name])
        rows.append(intake.add_job(cluster, job, snapshot.now_s))
    ahead = cluster.frozen(snapshot.now_s)
    return [forecast(ahead, row) for row in rows]
