"""How fast a training job is with n replicas: learnt points, known microbatches, or a prior; and its useful sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from springtide.core.resources import FloatArray, IntArray

PRIOR_EXPONENT = 0.9  # n replicas of unknown work are taken to be n ** 0.9 times as fast as one, until measured


@dataclass(frozen=True, slots=True)
class Curves:
    """C curves over sizes 0..K, as tables so that many jobs are looked up at once. Beyond K nothing is gained."""

    speed: FloatArray  # (C, K + 1), relative to one replica; speed[:, 0] == 0
    up: IntArray  # (C, K + 1): the next useful size above n, or n where there is none
    down: IntArray  # (C, K + 1): the next useful size below n, or 0
    apart: FloatArray  # (C,) share of that speed which is left on more nodes than it needs; 1 where nothing is known


def fewest_nodes(replicas: int, per_node: int) -> int:
    """Nodes that so many replicas need at least."""
    return -(-replicas // max(per_node, 1))


def of_microbatches(microbatches: int, maximum: int) -> FloatArray:
    """(maximum + 1,) speeds of a job of M microbatches: M / ceil(M / n), so it gains only where ceil(M / n) falls."""
    return np.array([0.0] + [microbatches / math.ceil(microbatches / n) for n in range(1, maximum + 1)])


def prior(maximum: int) -> FloatArray:
    """(maximum + 1,) speeds of work about which nothing is known yet."""
    speeds: FloatArray = np.arange(maximum + 1, dtype=np.float64) ** PRIOR_EXPONENT
    return speeds


def measured(points: Mapping[int, float], maximum: int) -> FloatArray:
    """(maximum + 1,) speeds through measured `{replicas: speed}` of any unit: linear between, the prior's slope beyond.

    The smallest measured size is taken to scale down by the prior, so that speed(1) is 1.
    """
    sizes = np.array(sorted(points))
    values = np.array([points[n] for n in sorted(points)], dtype=np.float64)
    n = np.arange(1, maximum + 1, dtype=np.float64)
    inside = np.interp(n, sizes, values)
    below = values[0] * (n / sizes[0]) ** PRIOR_EXPONENT
    beyond = values[-1] * (n / sizes[-1]) ** PRIOR_EXPONENT
    speeds = np.where(n < sizes[0], below, np.where(n > sizes[-1], beyond, inside))
    return np.concatenate([[0.0], speeds / speeds[0]])


class CurveTable:
    """Curves by content: the same curve is kept once, however many jobs follow it."""

    def __init__(self) -> None:
        self._index: dict[tuple[bytes, float], int] = {}
        self._speeds: list[FloatArray] = []
        self._apart: list[float] = []
        self._table: Curves | None = None

    @classmethod
    def of(cls, curves: Curves) -> CurveTable:
        """A table of its own with these curves in the same rows."""
        table = cls()
        table._speeds = list(curves.speed)
        table._apart = curves.apart.tolist()
        known = zip(table._speeds, table._apart, strict=True)
        table._index = {(speeds.tobytes(), apart): row for row, (speeds, apart) in enumerate(known)}
        table._table = curves
        return table

    def add(self, speeds: FloatArray, apart: float = 1.0) -> int:
        """The row of this curve in the table."""
        key = speeds.tobytes(), apart
        if key not in self._index:
            self._index[key] = len(self._speeds)
            self._speeds.append(speeds)
            self._apart.append(apart)
            self._table = None
        return self._index[key]

    def table(self) -> Curves:
        """All curves so far."""
        if self._table is None:
            widest = max((len(speeds) for speeds in self._speeds), default=2)
            speed = np.zeros((len(self._speeds), widest))
            for row, speeds in enumerate(self._speeds):
                speed[row, : len(speeds)] = speeds
                speed[row, len(speeds) :] = speeds[-1]
            up, down = _useful(speed)
            self._table = Curves(speed, up, down, np.array(self._apart))
        return self._table


def _useful(speed: FloatArray) -> tuple[IntArray, IntArray]:
    """Next useful size above and below each size: one that is faster than every smaller one."""
    count, width = speed.shape
    up = np.tile(np.arange(width), (count, 1))
    down = np.zeros((count, width), dtype=np.int64)
    best = np.maximum.accumulate(speed, axis=1)
    useful = np.ones((count, width), dtype=bool)
    useful[:, 1:] = speed[:, 1:] > best[:, :-1] * (1 + 1e-9)
    for n in range(width - 2, -1, -1):
        up[:, n] = np.where(useful[:, n + 1], n + 1, np.where(up[:, n + 1] > n + 1, up[:, n + 1], n))
    for n in range(1, width):
        down[:, n] = np.where(useful[:, n - 1], n - 1, down[:, n - 1])
    return up, down
