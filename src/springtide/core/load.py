"""What a service is asked to carry: now, a moment ago, and at this hour on other days.

The usual load is kept per five minutes of the week, each an exponentially weighted mean of the highest rates seen then:
simple exponential smoothing per season (P. R. Winters, "Forecasting sales by exponentially weighted moving averages",
Management Science 6(3), 1960, multiplicative level), with the day before standing in for a week not yet seen. A service
takes 16 KiB, however long it has been there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from springtide.core.resources import FloatArray

BIN_S = 300.0
BINS_A_DAY = 288
BINS = 7 * BINS_A_DAY
MONDAY_S = 4 * 86400.0  # the clock's zero, 1970-01-01, was a Thursday
KEPT_S = 3600.0  # for which steps of the rate are remembered
_KEPT = 64  # steps; beyond, two neighbours become one, the higher for longer
_OF_WEEK = 0.5  # weight of the newest of all days that a bin has seen
_OF_LEVEL = 0.3  # weight of the newest bin in how busy today is against the usual
_LEVELS = (0.25, 4.0)  # a forecast never leaves these multiples of the usual
_TRUSTED = 12  # bins: a rate that nobody measured for longer is not taken to have lasted


def nothing_usual() -> FloatArray:
    """(BINS,) for a service of which nothing was seen yet."""
    return np.full(BINS, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class Load:
    """Load of one service, in the unit that `per_replica` is in (requests per second, cores, or whole replicas)."""

    rate: float  # now, of all replicas together
    per_replica: float  # what one replica carries
    headroom: float | None = None  # None: the pool's
    pattern: FloatArray | None = None  # (BINS,) stated by its owner, of any scale; used until that time was seen
    usual: FloatArray = field(default_factory=nothing_usual)  # (BINS,) per time of the week; nan where not seen
    level: float = 1.0  # how busy it is now, against the usual
    scale: float = math.nan  # what 1 in `pattern` stands for
    bin: int | None = None  # that is going on; None before the first measurement
    peak: float = 0.0  # the highest rate in it
    recent: tuple[tuple[float, float], ...] = ()  # (until when, rate), both falling behind: each step that still counts
    why: str = ""  # how the rate follows from what was seen, where that is more than one number

    def observed(self, rate: float, now_s: float) -> Load:
        """The load after a measurement at `now_s`; the rate before is taken to have lasted until then."""
        now = bin_of(now_s)
        if self.bin is None:
            first = replace(self, rate=rate, bin=now, peak=rate, recent=self._lasted(now_s))
            return replace(first, scale=first._scaled(now))
        if now <= self.bin:
            return replace(self, rate=rate, peak=max(self.peak, rate), recent=self._lasted(now_s))
        usual, level, scale = self._closed(self.bin, now)
        return replace(
            self, rate=rate, usual=usual, level=level, scale=scale, bin=now, peak=max(rate, self.rate),
            recent=self._lasted(now_s),
        )  # fmt: skip

    def soon(self, from_s: float, until_s: float) -> float:
        """The highest rate that is expected between two moments; 0 where nothing is known about them."""
        if self.bin is None:
            return 0.0
        return max(self._expected(one) for one in range(bin_of(from_s), bin_of(until_s) + 1))

    def lately(self, since_s: float) -> tuple[float, float]:
        """The highest rate that was in force after that moment, the present one included, and until when it was."""
        for until_s, rate in self.recent:
            if until_s > since_s:
                return max(rate, self.rate), until_s
        return self.rate, math.inf

    def _expected(self, at: int) -> float:
        usual = self._usual(self.usual, at)
        if not math.isnan(usual):
            return usual * self.level
        if self.pattern is None or math.isnan(self.scale):
            return 0.0
        return float(self.pattern[at % BINS]) * self.scale

    @staticmethod
    def _usual(usual: FloatArray, at: int) -> float:
        """At this time of the week; else on the last day on which it was seen; nan where on none."""
        for days in (0, *range(1, 7)):
            value = float(usual[(at - days * BINS_A_DAY) % BINS])
            if value == value:
                return value
        return math.nan

    def _closed(self, opened: int, now: int) -> tuple[FloatArray, float, float]:
        """`usual`, `level` and `scale` with the bins from `opened` that ended before `now`."""
        usual, level, scale = self.usual.copy(), self.level, self.scale
        for one in range(opened, min(now, opened + _TRUSTED)):
            peak = self.peak if one == opened else self.rate
            before = self._usual(usual, one)
            if before > 0:
                level += _OF_LEVEL * (peak / before - level)
                level = min(max(level, _LEVELS[0]), _LEVELS[1])
            same = usual[one % BINS]
            usual[one % BINS] = peak if np.isnan(same) else same + _OF_WEEK * (peak - same)
            if self.pattern is not None and self.pattern[one % BINS] > 0:
                stated = peak / float(self.pattern[one % BINS])
                scale = stated if math.isnan(scale) else scale + _OF_LEVEL * (stated - scale)
        return usual, level, scale

    def _scaled(self, now: int) -> float:
        stated = 0.0 if self.pattern is None else float(self.pattern[now % BINS])
        return self.rate / stated if stated > 0 and self.rate > 0 else math.nan

    def _lasted(self, now_s: float) -> tuple[tuple[float, float], ...]:
        """Steps of the rate, highest and oldest first; a step that a later one reaches does not count any more."""
        steps = [step for step in self.recent if step[0] > now_s - KEPT_S and step[1] > self.rate]
        steps.append((now_s, self.rate))
        if len(steps) > _KEPT:
            gaps = [later[0] - earlier[0] for earlier, later in pairwise(steps)]
            at = gaps.index(min(gaps))
            steps[at : at + 2] = [(steps[at + 1][0], steps[at][1])]
        return tuple(steps)


def bin_of(moment_s: float) -> int:
    """Five minutes, counted from the clock's first Monday."""
    return math.floor((moment_s - MONDAY_S) / BIN_S)


def weekly(factors: Sequence[float]) -> FloatArray:
    """(BINS,) a pattern of a day (24 hours) or of a week from Monday (168), linear between the middles of hours.

    Raises ValueError for any other number of factors.
    """
    if len(factors) not in (24, 168):
        raise ValueError(f"{len(factors)} factors; a day has 24 and a week 168")
    week = np.tile(np.asarray(factors, dtype=np.float64), 168 // len(factors))
    around = np.concatenate([week[-1:], week, week[:1]])
    hours = (np.arange(BINS) + 0.5) * BIN_S / 3600.0
    stated: FloatArray = np.interp(hours, np.arange(-1, 169) + 0.5, around)
    return stated
