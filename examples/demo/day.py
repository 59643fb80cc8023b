"""The compressed day: how many requests come at which hour, and what happens when. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

HOURS = 24.0
NIGHT, PEAK = 12.0, 105.0  # requests per second
RISES, FALLS = (6.0, 11.0), (15.0, 20.0)


@dataclass(frozen=True)
class Happening:
    """What is done to the pool at an hour of the day; `seconds` of work where a job comes."""

    hour: float
    what: str  # the name of what is done: a method of `machine.Machine`
    words: str
    hours: float = 0.0  # how long the job that comes has to work


STORY = (
    Happening(1.5, "kill_worker", "a worker is killed (SIGKILL)"),
    Happening(3.0, "submit_report", "the shop wants its report", 5.0),
    Happening(4.5, "submit_sweep", "research bids for what is left", 5.0),
    Happening(7.0, "kill_workers", "all workers are killed at once (SIGKILL)"),
    Happening(13.0, "kill_replica", "a replica of the service is killed (SIGKILL)"),
    Happening(16.5, "kill_server", "the pool server is killed (SIGKILL), and started again"),
)


def rate(hour: float) -> float:
    """Requests per second: low at night, rising in the morning, high at noon, falling in the evening."""
    up, down = (_smooth(hour, *span) for span in (RISES, FALLS))
    return NIGHT + (PEAK - NIGHT) * (up - down)


def _smooth(hour: float, begin: float, end: float) -> float:
    share = min(max((hour - begin) / (end - begin), 0.0), 1.0)
    return (1 - math.cos(math.pi * share)) / 2


def arrivals(day_s: float, seed: int) -> Iterator[float]:
    """Seconds after midnight at which requests come: a Poisson process, without end (the next night goes on).

    By thinning (Lewis and Shedler, 1979).
    """
    chance, at_s = random.Random(seed), 0.0
    while True:
        at_s += chance.expovariate(PEAK)
        if chance.random() < rate(min(at_s / day_s, 1.0) * HOURS) / PEAK:
            yield at_s


def clock(hour: float) -> str:
    """`09:30`; after midnight `24:00` goes on as `+00:30`."""
    minutes = round(hour * 60)
    late = "+" if minutes > HOURS * 60 else ""
    return f"{late}{minutes // 60 - (24 if late else 0):02}:{minutes % 60:02}"
