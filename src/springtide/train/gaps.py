"""Offsets that hold no record: Kafka has some, the marks of transactions and what was compacted away.

They show only in what is read, so who plans reads ahead of what he plans; each record once, and nothing of it is kept.
"""

from __future__ import annotations

from springtide.data.streams.stream import Stream
from springtide.train.step_log import Offsets
from springtide.train.stream_plan import Spans, Supply, merged

_AT_ONCE = 1000


class Gaps:
    """What is known of them, as far as was read."""

    def __init__(self) -> None:
        self._read: dict[int, int] = {}  # partition -> up to where
        self._found: dict[int, list[tuple[int, int]]] = {}

    def without(self, supply: Supply, offsets: Offsets, stream: Stream, wanted: int) -> Supply:
        """The supply without its gaps, looked at until so many records of each partition are known."""
        bounds: dict[int, tuple[int, int]] = {}
        forbidden: dict[int, Spans] = dict(supply.quarantine)
        for partition, (first, end) in supply.bounds.items():
            begin = max(first, offsets.get(partition, first))
            gaps = self._found[partition] = [gap for gap in self._found.get(partition, []) if gap[1] > begin]
            at, barred = max(begin, self._read.get(partition, begin)), forbidden.get(partition, ())
            while at < end and _count(first, at, merged([*barred, *gaps]), begin) < wanted:
                found = stream.read(partition, at, limit=_AT_ONCE)
                for record in found:
                    if record.offset > at:
                        gaps.append((at, record.offset))
                    at = record.offset + 1
                if not found:
                    break
            self._read[partition] = at
            bounds[partition] = first, max(first, min(end, at))
            forbidden[partition] = merged([*barred, *gaps])
        return Supply(bounds, forbidden)


def _count(first: int, end: int, barred: Spans, begin: int) -> int:
    return Supply({0: (first, max(first, end))}, {0: barred}).count(0, begin)
