"""The cores over the day by who held them, in columns of equal time: what both pictures are drawn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from demo.machine import NODES
from demo.recording import Recording
from springtide.core.resources import FloatArray


@dataclass(frozen=True)
class Holder:
    """A kind of work, as it is drawn: the job, its name in the legend, its colour, and its sign in the terminal."""

    job: str
    name: str
    colour: str
    sign: str


HOLDERS = (
    Holder("web", "service", "#c7882b", "█"),
    Holder("report", "batch", "#3a9d5d", "▓"),
    Holder("sweep", "spot", "#8e5bb5", "▒"),
    Holder("digits", "training", "#0f7c9c", "░"),
)
IDLE = Holder("", "idle", "#d9e0e6", " ")


def columns(day: Recording, count: int) -> tuple[FloatArray, FloatArray]:
    """(count,) hours at the middle of each column, and (4, count) mean slots of each of `HOLDERS`."""
    begin_s, width_s = day.midnight_s, (day.end_s - day.midnight_s) / count
    sums = np.zeros((len(HOLDERS), count))
    now_s = max(begin_s, day.samples[0].at_s)
    for span_s, held in day.spans(from_s=begin_s):
        for place, part_s in _parts(now_s - begin_s, now_s - begin_s + span_s, width_s, count):
            sums[:, place] += [held.get(one.job, 0) * part_s for one in HOLDERS]
        now_s += span_s
    middles = begin_s + (np.arange(count) + 0.5) * width_s
    return np.array([day.hour(at_s) for at_s in middles]), np.minimum(sums / width_s, NODES)


def _parts(from_s: float, until_s: float, width_s: float, count: int) -> list[tuple[int, float]]:
    """(column, seconds in it) of a span of time."""
    found = []
    for place in range(max(0, int(from_s // width_s)), min(count - 1, int(until_s // width_s)) + 1):
        part_s = min(until_s, (place + 1) * width_s) - max(from_s, place * width_s)
        if part_s > 0:
            found.append((place, part_s))
    return found


def requests(day: Recording, count: int) -> Sequence[float]:
    """(count,) requests per second."""
    width_s = (day.end_s - day.midnight_s) / count
    sums = [0] * count
    for one in day.requests:
        place = int((one.sent_s - day.midnight_s) // width_s)
        if 0 <= place < count:
            sums[place] += 1
    return [each / width_s for each in sums]
