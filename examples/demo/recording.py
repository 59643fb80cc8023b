"""What is known of the day: everything was measured, with the time at which it was so (unix seconds)."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from demo.day import HOURS

RATE_S = 2.0  # over which requests per second are counted, for the eye
STANDSTILL_S = 1.0  # after a blow, in which a gap between two steps is taken to be its doing


@dataclass(frozen=True)
class Sample:
    """Who held how many slots, by the names of jobs: as planned."""

    at_s: float
    held: dict[str, int]


@dataclass(frozen=True)
class Request:
    """One request; `pid` is who answered, 0 for nobody."""

    sent_s: float
    answered_s: float
    tries: int
    pid: int


@dataclass(frozen=True)
class Commit:
    """One step of the training, committed."""

    step: int
    at_s: float
    workers: int


@dataclass(frozen=True)
class Blow:
    """What was done to the pool. `pids` were killed; `back_s` is when the pool server was back."""

    what: str
    words: str
    at_s: float
    pids: tuple[int, ...] = ()
    back_s: float | None = None
    same: bool | None = None  # of the pool server: whether its successor found the same processes


@dataclass
class Recording:
    """The day as it was."""

    midnight_s: float
    day_s: float
    samples: list[Sample] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    blows: list[Blow] = field(default_factory=list)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)  # the last that was told of each
    wanted_steps: int = 0

    def hour(self, at_s: float) -> float:
        """Of the compressed day."""
        return (at_s - self.midnight_s) / self.day_s * HOURS

    @property
    def end_s(self) -> float:
        """When the last job was done, or midnight."""
        done = [job["finished_s"] for job in self.jobs.values() if job.get("finished_s")]
        return max([self.midnight_s + self.day_s, *done])

    # --- requests

    @property
    def failed(self) -> int:
        return sum(not one.pid for one in self.requests)

    @property
    def asked_twice(self) -> int:
        return sum(one.tries > 1 and one.pid > 0 for one in self.requests)

    def latency_s(self, share: float) -> float:
        """The latency that this share of the requests did not exceed."""
        times = sorted(one.answered_s - one.sent_s for one in self.requests if one.pid)
        return times[min(len(times) - 1, int(share * len(times)))] if times else 0.0

    def rates(self, every_s: float = RATE_S) -> list[tuple[float, float]]:
        """(middle of an interval, requests per second that were sent in it), to the end."""
        if not self.requests:
            return []
        counts: dict[int, int] = {}
        for one in self.requests:
            place = int((one.sent_s - self.midnight_s) // every_s)
            counts[place] = counts.get(place, 0) + 1
        last = int((self.end_s - self.midnight_s) // every_s)
        return [(self.midnight_s + (n + 0.5) * every_s, counts.get(n, 0) / every_s) for n in range(last)]

    def first_answer_s(self, after_s: float) -> float | None:
        """When the next answer came to a request that was sent later."""
        times = [one.answered_s for one in self.requests if one.pid and one.sent_s >= after_s]
        return min(times, default=None)

    def first_of_new_s(self, after_s: float) -> float | None:
        """When a process answered for the first time that had answered nothing before."""
        known = {one.pid for one in self.requests if one.answered_s < after_s}
        new = [one.answered_s for one in self.requests if one.pid and one.pid not in known]
        return min(new, default=None)

    def longest_wait_s(self, from_s: float, until_s: float) -> float:
        """Of the requests that were sent in that time."""
        return max((one.answered_s - one.sent_s for one in self.requests if from_s <= one.sent_s < until_s), default=0)

    def answered(self, from_s: float, until_s: float) -> int:
        return sum(one.pid > 0 and from_s <= one.answered_s < until_s for one in self.requests)

    # --- steps

    @property
    def ordinary_step_s(self) -> float:
        gaps = [after.at_s - before.at_s for before, after in pairwise(self.commits)]
        return statistics.median(gaps) if gaps else 0.0

    @property
    def steps_lost(self) -> int:
        """Steps that were made more than once: those behind which the training had to go back."""
        return len(self.commits) - len({one.step for one in self.commits})

    def standstill_s(self, at_s: float) -> float:
        """The longest that training stood still after that moment, beyond an ordinary step."""
        gaps = [
            after.at_s - before.at_s
            for before, after in pairwise(self.commits)
            if after.at_s > at_s and before.at_s < at_s + STANDSTILL_S
        ]
        return max(0.0, max(gaps, default=0.0) - self.ordinary_step_s)

    def steps_between(self, from_s: float, until_s: float) -> int:
        return sum(from_s <= one.at_s < until_s for one in self.commits)

    # --- shares

    def held_seconds(self, job: str, from_s: float = 0.0, until_s: float = float("inf")) -> float:
        """Slot-seconds that a job held."""
        return sum(span_s * held.get(job, 0) for span_s, held in self.spans(from_s, until_s))

    def spans(self, from_s: float = 0.0, until_s: float = float("inf")) -> Iterator[tuple[float, dict[str, int]]]:
        """(seconds, who held how many) without gaps; where nobody was there to tell, as it was before."""
        ends = [one.at_s for one in self.samples[1:]] + [max(self.end_s, self.samples[-1].at_s)]
        for sample, end_s in zip(self.samples, ends, strict=True):
            span_s = min(end_s, until_s) - max(sample.at_s, from_s)
            if span_s > 0:
                yield span_s, sample.held

    def rises(self) -> Sequence[tuple[float, int]]:
        """(when it was decided, replicas from then on) of each time that the service grew during the day."""
        found, size = [], 0
        for event in self.events:
            told = re.search(r"(?:starts with|grows to|shrinks to) (\d+)", event["sentence"])
            if event["job"] != "web" or not told:
                continue
            # One that takes the place of a killed one is told as growth too; it is no more than there were.
            if int(told[1]) > size > 0 and event["time_s"] > self.midnight_s:
                found.append((event["time_s"], int(told[1])))
            size = int(told[1])
        return found
