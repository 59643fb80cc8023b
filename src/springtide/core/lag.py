"""What a stream's lag asks for: as many replicas as what waits and what arrives need.

What waits is divided by the records that one replica may be behind, as the owner says it. That alone would let go of
replicas as soon as they have caught up, and miss them again a moment later; so what arrives is divided by what one
replica has been seen to carry while it was busy (its true rate: Kalavri et al., "Three steps is all you need",
OSDI'18), and the larger of the two holds.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Behind:
    """How far a stream job is behind its source, all replicas together."""

    lag: float  # records that wait
    arriving: float = 0.0  # records per second
    carries: float = 0.0  # records per second of one busy replica; 0: not known yet
    partitions: int = 0  # beyond so many, replicas have nothing to do; 0: not known


def needed(behind: Behind, each: int) -> tuple[float, str]:
    """Replicas, not rounded, of which each may be so many records behind; and why, with the numbers."""
    waiting = behind.lag / each
    lasting = behind.arriving / behind.carries if behind.carries > 0 else 0.0
    if lasting > waiting:
        why = f"{_number(behind.arriving)} records/s arrive, and one replica carries {_number(behind.carries)}"
    else:
        why = f"{_number(behind.lag)} records wait, and one replica may be {each:,} behind"
    if 0 < behind.partitions < max(waiting, lasting):
        return float(behind.partitions), f"{why}; its {behind.partitions} partitions keep no more busy"
    return max(waiting, lasting), why


def _number(value: float) -> str:
    """For people: 12,345, or 0.25."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"
