"""Which jobs a round need not look at: nothing about them has changed, and no time has come for them.

A pool has thousands of jobs that wait and hundreds that just run. A round costs what happens in it, and each job is
looked at every ten seconds all the same, for what changes with time alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from springtide.engines.engine import JobSeen, ReplicaSeen
from springtide.pool.records import JobRecord, Step, Wish

LOOK_S = 10.0


@dataclass(frozen=True, slots=True)
class _Still:
    record: JobRecord
    replicas: Mapping[str, ReplicaSeen] | None
    since_s: float
    until_s: float


class Quiet:
    """What was still when it was looked at last."""

    def __init__(self) -> None:
        self._still: dict[str, _Still] = {}

    def busy(self, records: Iterable[JobRecord], seen: Mapping[str, JobSeen], now_s: float) -> list[JobRecord]:
        """Those that are to be looked at in this round."""
        return [record for record in records if not self._is_still(record, seen.get(record.id), now_s)]

    def looked(self, record: JobRecord, seen: JobSeen | None, now_s: float) -> None:
        """It was looked at, and this is how it is left."""
        if _moves(record, seen):
            self._still.pop(record.id, None)
            return
        until_s = now_s + LOOK_S if record.replicas else math.inf
        if record.retry_at_s > now_s:
            until_s = min(until_s, record.retry_at_s)
        self._still[record.id] = _Still(record, seen.replicas if seen else None, now_s, until_s)

    def forget(self, job_id: str) -> None:
        """The job is over."""
        self._still.pop(job_id, None)

    def clear(self) -> None:
        """Everything is to be looked at."""
        self._still.clear()

    def _is_still(self, record: JobRecord, seen: JobSeen | None, now_s: float) -> bool:
        still = self._still.get(record.id)
        if still is None or still.record is not record or not still.since_s <= now_s < still.until_s:
            return False
        if seen is None:
            return still.replicas is None
        return seen.training is None and seen.load is None and seen.replicas == still.replicas


def _moves(record: JobRecord, seen: JobSeen | None) -> bool:
    """Whether something about it is under way, or measured from round to round."""
    if seen is None:
        return bool(record.replicas)
    if seen.training or seen.load or (record.replicas and record.wish != Wish.RUN):
        return True
    if len(seen.replicas) > len(record.replicas):  # something runs, or has ended, of which nothing is recorded
        return True
    return any(one.step != Step.STARTED or one.id not in seen.replicas for one in record.replicas)
