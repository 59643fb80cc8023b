"""Shapes of a day that many services share, for who has not measured their own: 24 hourly factors, 1 at the peak."""

from __future__ import annotations

import math


def _hump(peak_hour: float, width_hours: float, least: float) -> tuple[float, ...]:
    """A smooth rise to 1 at the peak and back, around the clock."""

    def factor(hour: int) -> float:
        away = min(abs(hour - peak_hour), 24 - abs(hour - peak_hour))
        return round(least + (1 - least) * math.exp(-((away / width_hours) ** 2) / 2), 3)

    return tuple(factor(hour) for hour in range(24))


PATTERNS: dict[str, tuple[float, ...]] = {
    "flat": (1.0,) * 24,
    "office": _hump(13, 3.5, 0.1),  # people at work
    "evening": _hump(20, 4, 0.2),  # people at home
}
