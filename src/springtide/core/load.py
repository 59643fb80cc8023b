"""What a service is asked to carry: measured load now, and what was measured before."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from springtide.core.resources import FloatArray


@dataclass(frozen=True, slots=True)
class Load:
    """Load of one service, in the unit that `per_replica` is in (requests per second, or cores)."""

    rate: float  # now, of all replicas together
    per_replica: float  # what one replica carries
    headroom: float | None = None  # None: the pool's
    lowered_s: float = float("-inf")  # when a replica was last taken from it
    history_s: FloatArray = field(default_factory=lambda: np.zeros(0))  # (H,) times of past measurements, ascending
    history: FloatArray = field(default_factory=lambda: np.zeros(0))  # (H,) the rates then
