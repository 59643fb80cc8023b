"""What a group of processes may use at most, by control groups, or as far as rlimits and niceness reach."""

from __future__ import annotations

import math
import os
import resource
from dataclasses import dataclass

USUAL_WEIGHT = 100  # of a group that nobody gave one
_MOST_NICE = 19


def pool_weight() -> int:
    """Of all jobs of a pool together, against single processes beside it, each of which weighs as much as a group."""
    return USUAL_WEIGHT * (os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class Limits:
    """What all processes of one group may use together; None: not limited. `weight` decides where cores are short."""

    cpu: float | None = None
    weight: int = USUAL_WEIGHT
    memory_bytes: int | None = None
    pids: int | None = None
    disk_bytes_per_s: float | None = None  # of reading and of writing, each
    whole: bool = True  # where one process dies for lack of memory, the kernel ends all of the group (v2)

    def rlimits(self) -> dict[int, int]:
        """Where there are no control groups: rlimits of one process. They bound each process, not their sum.

        The number of processes is not among them: the kernel counts it by user, so one job's would stop another's.
        """
        return {} if self.memory_bytes is None else {resource.RLIMIT_DATA: self.memory_bytes}

    def nice(self) -> int:
        """Where there are no control groups: the niceness that comes nearest to `weight` (1.25 times a step)."""
        steps = math.log(max(1, self.weight) / USUAL_WEIGHT) / math.log(1.25)
        return max(0, min(_MOST_NICE, 5 - round(steps)))

    def apply_here(self) -> None:
        """In the child before it becomes the program: rlimits and niceness."""
        for kind, value in self.rlimits().items():
            _, most = resource.getrlimit(kind)
            bound = value if most == resource.RLIM_INFINITY else min(value, most)
            resource.setrlimit(kind, (bound, bound))
        now = os.getpriority(os.PRIO_PROCESS, 0)
        if self.nice() > now:
            os.setpriority(os.PRIO_PROCESS, 0, self.nice())
