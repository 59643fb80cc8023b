"""Why something was decided, in one sentence with its numbers.

A pass over thousands of jobs decides more than anybody reads, so a reason keeps its words and numbers apart and becomes
a sentence when it is asked for.
"""

from __future__ import annotations

from typing import NamedTuple


class Reason(NamedTuple):
    """`str(reason)` is the sentence: `template` with `values` filled in (str.format, by position)."""

    template: str
    values: tuple[object, ...] = ()

    def __str__(self) -> str:
        return self.template.format(*self.values)


def amount(value: float) -> str:
    """A count of cores or devices for people: 4, 0.5."""
    return f"{value:.4g}"
