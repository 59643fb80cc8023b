"""What services are asked to carry: requests by their replicas' own count, else cores. Averaged over a window.

And how far streams are behind, by what their replicas tell of themselves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from springtide.core.lag import Behind
from springtide.engines.engine import LoadSeen

USUAL_WINDOW_S = 30.0
# Of a replica's page, each behind `tide_stream_`, in the order of `Processing`.
STREAM_FIGURES = ("lag_records", "processed_total", "busy_seconds_total", "arrived_total", "partitions")


@dataclass
class _Job:
    last: dict[str, float] = field(default_factory=dict)  # replica -> its count
    total: float = 0.0  # of all replicas that ever were; it never falls
    seen: deque[tuple[float, float]] = field(default_factory=deque)  # time, total or cores
    counted: bool = False


class Loads:
    """Remembers what was seen of each job within its window."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Job] = {}

    def look(
        self, name: str, counts: Mapping[str, float], cores: float, now_s: float, window_s: float | None
    ) -> LoadSeen | None:
        """`counts` by replica, of those that count requests, as they were at `now_s`; None before there were two."""
        job = self._jobs.setdefault(name, _Job())
        if counts and not job.counted:
            job.counted = True
            job.seen.clear()
            job.last = dict(counts)  # what was served before the first look was served long ago, or at no known time
        for replica, count in counts.items():
            before = job.last.get(replica, 0.0)
            job.total += count - before if count >= before else count
            job.last[replica] = count
        if job.seen and job.seen[-1][0] >= now_s:
            job.seen.pop()
        job.seen.append((now_s, job.total if job.counted else cores))
        while len(job.seen) > 2 and job.seen[1][0] <= now_s - (window_s or USUAL_WINDOW_S):
            job.seen.popleft()
        if len(job.seen) < 2:
            return None
        if not job.counted:
            return LoadSeen(sum(value for _, value in job.seen) / len(job.seen), "cores")
        (then_s, then), (last_s, last) = job.seen[0], job.seen[-1]
        return LoadSeen((last - then) / (last_s - then_s), "requests") if last_s > then_s else None

    def forget(self, name: str) -> None:
        """The job is over."""
        self._jobs.pop(name, None)


@dataclass(frozen=True, slots=True)
class Processing:
    """What one replica tells of its work on a stream."""

    lag: float  # records that wait in the partitions that it holds
    processed: float  # records, since it began
    busy_s: float  # for which it has worked on them
    arrived: float  # records that the stream has ever held, all partitions
    partitions: float  # of the stream


@dataclass
class _Stream:
    last: dict[str, Processing] = field(default_factory=dict)
    processed: float = 0.0  # of all replicas that ever were; it never falls
    busy_s: float = 0.0
    seen: deque[tuple[float, float, float, float]] = field(default_factory=deque)  # time, arrived, processed, busy_s
    carries: float = 0.0


class Lags:
    """Remembers what the replicas of each stream job have told within a window."""

    def __init__(self) -> None:
        self._jobs: dict[str, _Stream] = {}

    def look(self, name: str, told: Mapping[str, Processing], now_s: float) -> LoadSeen | None:
        """`told` by replica, of those that live, as it was at `now_s`; None while nobody tells anything."""
        if not told:
            return None
        job = self._jobs.setdefault(name, _Stream())
        for replica, one in told.items():
            before = job.last.get(replica, Processing(0.0, 0.0, 0.0, 0.0, 0.0))
            job.processed += one.processed - before.processed if one.processed >= before.processed else one.processed
            job.busy_s += one.busy_s - before.busy_s if one.busy_s >= before.busy_s else one.busy_s
        job.last = dict(told)
        if job.seen and job.seen[-1][0] >= now_s:
            job.seen.pop()
        job.seen.append((now_s, max(one.arrived for one in told.values()), job.processed, job.busy_s))
        while len(job.seen) > 2 and job.seen[1][0] <= now_s - USUAL_WINDOW_S:
            job.seen.popleft()
        lag, partitions = sum(one.lag for one in told.values()), max(one.partitions for one in told.values())
        return LoadSeen(lag, "records", Behind(lag, _arriving(job), _carries(job), int(partitions)))

    def forget(self, name: str) -> None:
        """The job is over."""
        self._jobs.pop(name, None)


def _arriving(job: _Stream) -> float:
    (then_s, then, *_), (last_s, last, *_) = job.seen[0], job.seen[-1]
    return max(last - then, 0.0) / (last_s - then_s) if last_s > then_s else 0.0


def _carries(job: _Stream) -> float:
    """As it was last seen: an idle replica shows nothing of what it can do."""
    (_, _, then, then_busy_s), (_, _, last, last_busy_s) = job.seen[0], job.seen[-1]
    if last > then and last_busy_s > then_busy_s:
        job.carries = (last - then) / (last_busy_s - then_busy_s)
    return job.carries
