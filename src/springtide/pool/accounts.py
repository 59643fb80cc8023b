"""Who had what: core-seconds and gpu-seconds asked for, given and used, by team and job; and each team's history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from springtide.core import resources
from springtide.core.resources import FloatArray
from springtide.core.snapshot import Snapshot, Teams
from springtide.engines.engine import Used
from springtide.pool.live import TeamUse
from springtide.pool.records import JobRecord, Step, Wish
from springtide.pool.store import Use
from springtide.spec.resources import Resources


@dataclass(slots=True)
class Accounts:
    """What was not yet kept. The engine tells totals that never fall; a job used the difference of two looks."""

    _open: dict[tuple[int, str, str, str], list[float]] = field(default_factory=dict)
    _before: dict[str, tuple[float, Used]] = field(default_factory=dict)  # job id -> when it was looked at, its totals

    def passed(self, record: JobRecord, used: Used, now_s: float) -> None:
        """Books the time since the job was looked at last, in which its replicas were these."""
        since_s, before = self._before.get(record.id, (now_s, used))
        self._before[record.id] = now_s, used
        seconds, hour, asked = max(now_s - since_s, 0.0), int(now_s // 3600), record.job.resources
        self._book(record, hour, "core", asked.cpu, max(used.cpu_s - before.cpu_s, 0.0), seconds)
        self._book(record, hour, "gpu", asked.gpu, max(used.gpu_s - before.gpu_s, 0.0), seconds)

    def forget(self, job_id: str) -> None:
        """The job is over."""
        self._before.pop(job_id, None)

    def take(self) -> list[Use]:
        """What is to be kept; it is not told twice."""
        found = [Use(*key, *sums) for key, sums in self._open.items() if any(sums)]
        self._open.clear()
        return found

    def _book(self, record: JobRecord, hour: int, resource: str, each: float, spent: float, seconds: float) -> None:
        if not each and not spent:
            return
        held = sum(one.step != Step.ASSIGNED for one in record.replicas)
        wanted = record.range.minimum if record.wish == Wish.RUN and not record.state.over else 0
        sums = self._open.setdefault((hour, record.job.team, record.name, resource), [0.0, 0.0, 0.0])
        sums[0] += max(wanted, held) * each * seconds
        sums[1] += held * each * seconds
        sums[2] += spent


def aged(snapshot: Snapshot, seconds: float) -> Teams:
    """The teams after so many seconds: what they held is added to their history, and what is old counts less."""
    teams, jobs = snapshot.teams, snapshot.jobs
    rows = snapshot.live()
    held = np.zeros((len(teams.names), resources.COUNT))
    np.add.at(held, jobs.team[rows], snapshot.shapes.request[jobs.shape[rows]] * jobs.running[rows][:, None])
    share: FloatArray = resources.dominant(held, snapshot.nodes.total())
    kept = 0.5 ** (seconds / snapshot.settings.history_half_life_s)
    return replace(teams, history=teams.history * kept + share * seconds)


def held_by(records: Iterable[JobRecord]) -> Mapping[str, FloatArray]:
    """(5,) by team, of what is started or assigned."""
    found: dict[str, FloatArray] = {}
    for record in records:
        count = sum(one.step != Step.STOPPING for one in record.replicas)
        if count:
            amount = np.array(record.job.resources.vector()) * count
            found[record.job.team] = found.get(record.job.team, np.zeros(resources.COUNT)) + amount
    return found


def team_use(teams: Teams, held: Mapping[str, FloatArray], total: FloatArray) -> dict[str, TeamUse]:
    """What each team's own jobs hold, its dominant share, and what it has spent."""
    spent = np.broadcast_to(teams.spent, len(teams.names)).tolist()
    found = {}
    for name, money in zip(teams.names, spent, strict=True):
        amount = held.get(name, np.zeros(resources.COUNT))
        share = float(resources.dominant(amount, total))
        named = dict(zip(resources.KINDS, amount.tolist(), strict=True))
        found[name] = TeamUse(Resources(**named), share, float(money))
    return found
