"""All services' loads, by job row, with what follows from them: looked up anew only where it can have changed.

A load changes when it is measured, a forecast when the next five minutes begin, and the highest rate of the last while
when a step of it is over. What is kept changes no answer.
"""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from springtide.core.load import Load, bin_of
from springtide.core.resources import FloatArray, IntArray

_RATE, _CARRIES, _HEADROOM, _AHEAD, _BEFORE, _UNTIL = range(6)


class Expected(NamedTuple):
    """R services: columns of `Load`, and rates that are expected or were."""

    rows: IntArray  # (R,)
    rate: FloatArray  # (R,) now
    ahead: FloatArray  # (R,) the highest that is expected from now on; 0 where nothing is known
    before: FloatArray  # (R,) the highest that was in force, or was expected, in the last while
    per_replica: FloatArray  # (R,)
    headroom: FloatArray  # (R,) nan: the pool's


class Loads(UserDict[int, Load]):
    """A mapping of job rows to loads."""

    def __init__(self, loads: Mapping[int, Load] | None = None) -> None:
        self._table: FloatArray = np.zeros((0, 6))
        self._rows: IntArray | None = None
        self._stale: set[int] = set()
        self._span = (0, 0, 0)  # the bins that the table is of
        self._since_s = -math.inf
        super().__init__(loads or {})

    def __setitem__(self, row: int, load: Load) -> None:
        if row not in self.data:
            self._rows = None
        self.data[row] = load
        self._stale.add(row)

    def __delitem__(self, row: int) -> None:
        del self.data[row]
        self._rows = None

    def own(self) -> Loads:
        """A mapping of its own that begins as this one is."""
        found = Loads()
        found.data, found._rows, found._stale = dict(self.data), self._rows, set(self._stale)
        found._table, found._span, found._since_s = self._table.copy(), self._span, self._since_s
        return found

    def expected(self, since_s: float, now_s: float, until_s: float) -> Expected:
        """What is known about the time from `since_s` over now to `until_s`."""
        if self._rows is None:
            self._rows = np.array(sorted(self.data), dtype=np.int64)
        rows, span = self._rows, (bin_of(since_s), bin_of(now_s), bin_of(until_s))
        if span != self._span or since_s < self._since_s:
            stale = set(self.data)
        else:
            stale = self._stale | set(rows[self._lines(rows)[:, _UNTIL] <= since_s].tolist())
        self._lines(rows)
        for row in stale & self.data.keys():
            self._table[row] = _line(self.data[row], since_s, now_s, until_s)
        self._span, self._since_s, self._stale = span, since_s, set()
        known = self._table[rows]
        return Expected(
            rows, known[:, _RATE], known[:, _AHEAD], known[:, _BEFORE], known[:, _CARRIES], known[:, _HEADROOM]
        )

    def _lines(self, rows: IntArray) -> FloatArray:
        """(R, 6) of the table, which is made as long as it has to be."""
        longest = int(rows.max(initial=-1)) + 1
        if longest > len(self._table):
            table = np.full((2 * longest, 6), -math.inf)
            table[: len(self._table)] = self._table
            self._table = table
        found: FloatArray = self._table[rows]
        return found


def _line(load: Load, since_s: float, now_s: float, until_s: float) -> tuple[float, ...]:
    lately, over_s = load.lately(since_s)
    before = max(lately, load.soon(since_s, now_s))
    headroom = math.nan if load.headroom is None else load.headroom
    return load.rate, load.per_replica, headroom, load.soon(now_s, until_s), before, over_s
