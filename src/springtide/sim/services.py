"""Services in a play: what their load needs, what they hold of it, and what answers already."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Service:
    """One service at one moment, in replicas. Where `rate` is None it is as large as its owner says."""

    per_replica: float
    minimum: int
    maximum: int
    rate: float | None  # asked of all replicas together
    held: int = 0
    ready: int = 0  # of those held, how many answer

    @property
    def need(self) -> int:
        """The replicas that its load needs, within its range; no headroom."""
        if self.rate is None:
            return self.minimum
        return min(max(math.ceil(self.rate / self.per_replica - 1e-9), self.minimum), self.maximum)

    @property
    def carried(self) -> float:
        """Its load, in fully used replicas, as far as those that answer can carry it."""
        wanted = float(self.need) if self.rate is None else self.rate / self.per_replica
        return min(wanted, float(self.ready))

    def hold(self, replicas: int) -> None:
        """It holds so many now; what it lost does not answer any more."""
        self.held = replicas
        self.ready = min(self.ready, replicas)

    def answer(self, more: int) -> None:
        """So many more of those that it holds answer now."""
        self.ready = min(self.ready + more, self.held)
