"""What services are asked to carry: requests by their replicas' own count, else cores. Averaged over a window."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from springtide.engines.engine import LoadSeen

USUAL_WINDOW_S = 30.0


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
