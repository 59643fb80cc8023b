"""Some figures over time, in at most so many intervals however long the play is."""

from __future__ import annotations

import numpy as np

from springtide.core.resources import FloatArray

MOST = 1024  # intervals; a picture is not wider


class Timeline:
    """Means of `width` figures over equal intervals; when the play grows too long for them they double."""

    def __init__(self, width: int) -> None:
        self.every_s = 1.0
        self._sums: FloatArray = np.zeros((MOST, width))
        self._spans: FloatArray = np.zeros(MOST)
        self._base_s: float | None = None

    def add(self, begin_s: float, end_s: float, values: FloatArray) -> None:
        """From `begin_s` to `end_s` the figures were `values`."""
        if self._base_s is None:
            self._base_s = begin_s
        begin_s, end_s = begin_s - self._base_s, end_s - self._base_s
        while end_s > MOST * self.every_s:
            self._double()
        first, last = int(begin_s // self.every_s), min(int(end_s // self.every_s), MOST - 1)
        if first >= last:
            first = min(first, MOST - 1)
            self._sums[first] += values * (end_s - begin_s)
            self._spans[first] += end_s - begin_s
            return
        edges = np.clip(np.arange(first, last + 2) * self.every_s, begin_s, end_s)
        spans = np.diff(edges)
        self._sums[first : last + 1] += spans[:, None] * values
        self._spans[first : last + 1] += spans

    def means(self) -> tuple[FloatArray, FloatArray]:
        """(T,) times in the middle of each interval, and (T, width) means over it."""
        there = np.flatnonzero(self._spans > 0)
        middle: FloatArray = np.asarray((self._base_s or 0.0) + (there + 0.5) * self.every_s, dtype=np.float64)
        return middle, self._sums[there] / self._spans[there, None]

    def _double(self) -> None:
        half = MOST // 2
        self._sums[:half] = self._sums[0::2] + self._sums[1::2]
        self._spans[:half] = self._spans[0::2] + self._spans[1::2]
        self._sums[half:], self._spans[half:] = 0.0, 0.0
        self.every_s *= 2
