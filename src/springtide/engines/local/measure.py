"""What jobs use, from control groups, or from /proc where there are none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from springtide.engines.engine import Used
from springtide.engines.local.cgroups import Groups


@dataclass(frozen=True, slots=True)
class Subject:
    """One job to be measured: its folder (totals are kept there), what it runs as (pid, start), and its GPUs."""

    folder: Path
    processes: tuple[tuple[int, int], ...] = ()  # its shim, or whoever is at the head of its trees of processes
    devices: tuple[int, ...] = ()  # of this machine, of all replicas together
    gpu_share: float = 1.0  # of each device


class Meter:
    """Totals and present use of jobs. Called by one thread."""

    def __init__(self, groups: Groups) -> None: ...

    def look(self, subjects: Mapping[str, Subject], now_s: float) -> Mapping[str, Used]:
        """One look at all jobs, by id; `now_s` of a monotonic clock. Cheap: at most 5 ms for 100 jobs."""
        raise NotImplementedError

    def cores(self, job: str) -> float:
        """Seconds of cores per second, of late."""
        return 0.0

    def forget(self, job: str) -> None:
        """The job is over; its folder is the caller's."""
