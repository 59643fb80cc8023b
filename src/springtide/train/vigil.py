"""Who has stopped, hangs, or is merely busy. Pure: what was seen goes in, who is to be killed and why comes out.

Python holds the interpreter in long calls (a heartbeat stood still for 2 s in a regular expression), so a missed beat
alone condemns nobody: only a stopped process, one whose CPU time stands still, or one far beyond what microbatches
take.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median

BEAT_SECONDS = 0.25  # how often a worker's thread says that it is there
SILENCE_SECONDS = 1.0  # without a beat: look closer
STILL_SECONDS = 2.0  # silent, and no CPU time in so long: hung
DEADLINE_FACTOR, DEADLINE_SECONDS = 20.0, 60.0
FIRST_DEADLINE_SECONDS = 600.0  # while no microbatch time is known
_REMEMBERED = 64


@dataclass(frozen=True, slots=True)
class Look:
    """One worker as it was seen. Times are seconds of the monotonic clock."""

    beat: float
    since: float  # when its loop body got the microbatch that it is at; 0: it is not in the loop body
    state: str  # of the process: T is stopped
    cpu_ticks: int


@dataclass(frozen=True, slots=True)
class Vigil:
    """What is remembered between looks."""

    deadline_seconds: float | None = None  # as the user set it
    looked: float | None = None
    grace_until: float = 0.0  # after the supervisor itself was late
    cpu: Mapping[int, tuple[int, float]] = field(default_factory=dict)  # worker -> (ticks, since when so many)
    microbatch_seconds: tuple[float, ...] = ()

    @property
    def deadline(self) -> float:
        """How long a loop body may be at one microbatch."""
        if self.deadline_seconds is not None:
            return self.deadline_seconds
        if not self.microbatch_seconds:
            return FIRST_DEADLINE_SECONDS
        return max(DEADLINE_SECONDS, DEADLINE_FACTOR * median(self.microbatch_seconds))


def measured(vigil: Vigil, seconds: float) -> Vigil:
    """A microbatch took so long."""
    return replace(vigil, microbatch_seconds=(*vigil.microbatch_seconds, seconds)[-_REMEMBERED:])


def look(vigil: Vigil, looks: Mapping[int, Look], now: float) -> tuple[Vigil, dict[int, str]]:
    """The vigil after this look, and whom to kill: worker -> why."""
    late = vigil.looked is not None and now - vigil.looked > SILENCE_SECONDS
    grace = now + SILENCE_SECONDS if late else vigil.grace_until
    cpu = {
        worker: vigil.cpu[worker] if vigil.cpu.get(worker, (-1, 0.0))[0] == seen.cpu_ticks else (seen.cpu_ticks, now)
        for worker, seen in looks.items()
    }
    condemned = {}
    for worker, seen in looks.items():
        why = _verdict(vigil, seen, now - cpu[worker][1], now)
        if why and now >= grace:
            condemned[worker] = why
    return replace(vigil, looked=now, grace_until=grace, cpu=cpu), condemned


def _verdict(vigil: Vigil, seen: Look, still: float, now: float) -> str | None:
    silent = now - seen.beat
    if silent > SILENCE_SECONDS and seen.state in ("T", "t"):
        return f"was stopped (no heartbeat for {silent:.1f} s)"
    if silent > SILENCE_SECONDS and still > STILL_SECONDS:
        return f"hung: no heartbeat for {silent:.1f} s and no CPU time for {still:.1f} s"
    if seen.since and now - seen.since > vigil.deadline:
        return f"was {now - seen.since:.0f} s at one microbatch (limit {vigil.deadline:.0f} s)"
    return None
