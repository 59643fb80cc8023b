"""Whether what comes in, and how often the answers are right, is still as it was. Pure, of bounded memory.

Inputs: the population stability index of each numeric field over tenths of the reference (E. M. Lewis, An Introduction
to Credit Scoring, 1992; N. Siddiqi, Credit Risk Scorecards, 2006: from 0.1 on moderate, from 0.25 on major). Two
samples of n and m records of one kind differ by about 9 (1/n + 1/m) by chance alone, which is taken off (B. Yurdakul,
Statistical Properties of Population Stability Index, 2018).

Accuracy: the test of Page and Hinkley for a fall of a mean (E. S. Page, Continuous Inspection Schemes, Biometrika 41,
1954; J. Gama et al., A Survey on Concept Drift Adaptation, ACM Computing Surveys 46, 2014).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

BINS = 10
LEAST = 100  # values of a field before anything is said of it
MOST_FIELDS = 64
_MOST_DEEP = 3
_ITEMS = 8  # of a list of numbers; what is longer is told by its mean and spread
_NONE = 1e-4  # the share of an empty bin: the index would be infinite


def numbers(value: Any, name: str = "input", deep: int = _MOST_DEEP) -> dict[str, float]:
    """The numeric fields of an input, by path. Long lists count as their mean and their spread."""
    match value:
        case bool():
            return {name: float(value)}
        case int() | float():
            return {name: float(value)} if math.isfinite(value) else {}
        case dict() if deep:
            found = [numbers(item, f"{name}.{key}", deep - 1) for key, item in value.items()]
        case list() if deep and 0 < len(value) <= _ITEMS:
            found = [numbers(item, f"{name}[{place}]", deep - 1) for place, item in enumerate(value)]
        case list() if deep and (flat := _flat(value)):
            mean = math.fsum(flat) / len(flat)
            spread = math.sqrt(math.fsum((one - mean) ** 2 for one in flat) / len(flat))
            return {f"{name} (mean)": mean, f"{name} (spread)": spread, f"{name} (length)": float(len(value))}
        case _:
            return {}
    return {key: one for fields in found for key, one in fields.items()}


def _flat(value: Sequence[Any]) -> list[float]:
    inner = [item for one in value for item in (one if isinstance(one, list) else [one])]
    return [float(one) for one in inner if isinstance(one, int | float) and math.isfinite(one)]


def stability_index(reference: Sequence[float], recent: Sequence[float], bins: int = BINS) -> float:
    """Population stability index of two samples, less what chance alone would make; 0 where they are alike."""
    edges = _edges(sorted(reference), bins)
    before, now = _shares(reference, edges), _shares(recent, edges)
    index = math.fsum((q - p) * math.log(q / p) for p, q in zip(before, now, strict=True))
    return max(0.0, index - len(edges) * (1 / len(reference) + 1 / len(recent)))


def _edges(ordered: Sequence[float], bins: int) -> list[float]:
    """Between tenths of the reference; a value that stands often makes one edge, so that a constant has its own bin."""
    found = {ordered[min(len(ordered) - 1, len(ordered) * place // bins)] for place in range(1, bins)}
    edges = sorted(found | {ordered[-1]})
    return [math.nextafter(edges[0], -math.inf), *edges] if edges else []


def _shares(values: Sequence[float], edges: Sequence[float]) -> list[float]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_left(edges, value)] += 1
    return [max(count / len(values), _NONE) for count in counts]


class Window:
    """The latest `size` records, as numbers by field."""

    def __init__(self, size: int) -> None:
        self._size, self._added = size, 0
        self._fields: dict[str, deque[float]] = {}

    def add(self, fields: Mapping[str, float]) -> None:
        self._added += bool(fields)
        for name, value in fields.items():
            if name not in self._fields and len(self._fields) < MOST_FIELDS:
                self._fields[name] = deque(maxlen=self._size)
            if name in self._fields:
                self._fields[name].append(value)

    @classmethod
    def of(cls, values: Mapping[str, Sequence[float]], size: int) -> Window:
        """A window that holds these."""
        found = cls(size)
        found._fields = {name: deque(some, maxlen=size) for name, some in list(values.items())[:MOST_FIELDS]}
        return found

    @property
    def full(self) -> bool:
        """Whether so many records were added as it can hold."""
        return self._added >= self._size

    def values(self) -> dict[str, list[float]]:
        """Field -> its values, of those that have enough."""
        return {name: list(values) for name, values in self._fields.items() if len(values) >= min(LEAST, self._size)}


def drifted(reference: Window, recent: Window) -> dict[str, float]:
    """Field -> its stability index, of the fields that both have enough of."""
    before, now = reference.values(), recent.values()
    return {name: stability_index(before[name], now[name]) for name in before if name in now}


@dataclass(slots=True)
class Falling:
    """Page and Hinkley's test for a fall of a mean of values between 0 and 1, beside the mean of the latest."""

    tolerance: float = 0.05  # falls smaller than this are none
    threshold: float = 10.0  # the sum at which it is one
    count: int = 0
    mean: float = 0.0
    sum: float = 0.0
    least: float = 0.0

    def add(self, value: float) -> bool:
        """Whether the mean has fallen; it then begins anew, so that one fall is told once."""
        self.count += 1
        self.mean += (value - self.mean) / self.count
        self.sum += self.mean - value - self.tolerance
        self.least = min(self.least, self.sum)
        if self.count >= LEAST and self.sum - self.least > self.threshold:
            self.count, self.mean, self.sum, self.least = 0, 0.0, 0.0, 0.0
            return True
        return False


class Answers:
    """Whether answers were right, over the latest corrections and over those before."""

    def __init__(self, size: int, tolerance: float) -> None:
        self._recent: deque[float] = deque(maxlen=size)
        self._falling = Falling(tolerance=tolerance / 2)
        self.falls = 0

    def add(self, right: bool) -> bool:
        """Whether they have just begun to be right less often."""
        self._recent.append(float(right))
        fallen = self._falling.add(float(right))
        self.falls += fallen
        return fallen

    @property
    def count(self) -> int:
        return len(self._recent)

    @property
    def accuracy(self) -> float | None:
        """Share of right answers among the latest corrections."""
        return math.fsum(self._recent) / len(self._recent) if self._recent else None


def right(output: Any, correct: Any, answer: str | None = None) -> bool:
    """Whether an output is what the user says it should have been; `answer`: the field of it that counts."""
    said = output.get(answer) if answer is not None and isinstance(output, dict) else output
    wanted = correct.get(answer) if answer is not None and isinstance(correct, dict) else correct
    return bool(said == wanted)
