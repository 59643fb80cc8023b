"""Why something was decided, in one sentence with its numbers.

A pass over thousands of jobs decides more than anybody reads, so a reason keeps its words and numbers apart and becomes
a sentence when it is asked for.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from springtide.core.resources import CPU, DISK, GPU, MEMORY, NETWORK, FloatArray


class Reason(NamedTuple):
    """`str(reason)` is the sentence: `template` with `values` filled in (str.format, by position)."""

    template: str
    values: tuple[object, ...] = ()

    def __str__(self) -> str:
        return self.template.format(*self.values)


class Replicas(NamedTuple):
    """How many replicas: `1 replica`, `3 replicas`."""

    number: int

    def __str__(self) -> str:
        return f"{self.number} replica{'s' * (self.number != 1)}"


def amount(value: float) -> str:
    """A count of cores or devices for people: 4, 0.5."""
    return f"{value:.4g}"


class Figure(NamedTuple):
    """An amount of the resource in column `kind`, text when its sentence is asked for: 4, 8Gi, 200MB/s."""

    kind: int
    value: float

    def __str__(self) -> str:
        if not math.isfinite(self.value):
            return "any number"
        if self.kind == MEMORY:
            return f"{self.value / 2**30:.4g}Gi"
        return f"{self.value / 1e6:.4g}MB/s" if self.kind in (DISK, NETWORK) else amount(self.value)


def money(value: float) -> str:
    """An amount of money for people, in whatever the pool counts it: 0.05, 12.5."""
    return f"{value:.4g}"


def amounts(vector: FloatArray) -> str:
    """What (5,) `vector` holds, for people: 4 gpu, 2.5 cores, 8Gi; what is not limited is not named."""
    words = {GPU: "{} gpu", CPU: "{} cores", MEMORY: "{}", DISK: "{} of disk", NETWORK: "{} of network"}
    said = [
        text.format(Figure(kind, float(vector[kind])))
        for kind, text in words.items()
        if vector[kind] > 0 and math.isfinite(vector[kind])
    ]
    return ", ".join(said) or "nothing that is limited"
