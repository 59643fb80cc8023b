"""Ranges of records: partition -> half-open intervals of offsets, in order and apart. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

Offsets = Mapping[int, int]  # partition -> the next offset
Ranges = Mapping[int, tuple[tuple[int, int], ...]]


def since(begin: Offsets, end: Offsets) -> dict[int, tuple[tuple[int, int], ...]]:
    """What was read between two positions; a partition that `begin` does not know was read from 0."""
    found = {partition: (begin.get(partition, 0), last) for partition, last in end.items()}
    return {partition: (span,) for partition, span in found.items() if span[0] < span[1]}


def joined(many: Iterable[Ranges]) -> dict[int, tuple[tuple[int, int], ...]]:
    """All of them as one, neighbours and overlaps made one interval."""
    spans: dict[int, list[tuple[int, int]]] = {}
    for ranges in many:
        for partition, intervals in ranges.items():
            spans.setdefault(partition, []).extend(intervals)
    return {partition: _merged(sorted(intervals)) for partition, intervals in sorted(spans.items())}


def _merged(intervals: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for first, end in intervals:
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((first, end))
    return tuple(found)


def without(ranges: Ranges, taken: Ranges) -> dict[int, tuple[tuple[int, int], ...]]:
    """What of `ranges` is in none of `taken`, both merged."""
    found = {}
    for partition, intervals in ranges.items():
        left = []
        for first, end in intervals:
            for begin, stop in taken.get(partition, ()):
                if begin < end and first < stop:
                    if first < begin:
                        left.append((first, begin))
                    first = max(first, stop)
            if first < end:
                left.append((first, end))
        if left:
            found[partition] = tuple(left)
    return found


def holds(ranges: Ranges, partition: int, offset: int) -> bool:
    """Whether this record is in them."""
    return any(first <= offset < end for first, end in ranges.get(partition, ()))


def count(ranges: Ranges) -> int:
    """How many offsets there are in them."""
    return sum(end - first for intervals in ranges.values() for first, end in intervals)


def as_json(ranges: Ranges) -> dict[str, list[list[int]]]:
    """As a file of quarantine says it: `{"0": [[10, 20]]}`."""
    return {str(partition): [list(span) for span in intervals] for partition, intervals in ranges.items()}
