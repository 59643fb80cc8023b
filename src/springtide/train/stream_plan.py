"""What the next step of a run on a stream takes. Pure: offsets and bounds go in, ranges come out.

Shares are fair: each partition gives as many records as the others, as far as it has them. What is decided here holds
once it is in the step log, so it need not be the same twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from springtide.train.step_log import Offsets, Range

Spans = Sequence[tuple[int, int]]  # half open, in order, apart


@dataclass(frozen=True, slots=True)
class Supply:
    """What can be read: partition -> [first, end); and what of it must not be."""

    bounds: Mapping[int, tuple[int, int]]
    quarantine: Mapping[int, Spans] = field(default_factory=dict)

    def spans(self, partition: int, begin: int) -> Iterator[tuple[int, int]]:
        """What is left of a partition from an offset on."""
        first, end = self.bounds[partition]
        at = max(first, begin)
        for low, high in self.quarantine.get(partition, ()):
            if at < min(low, end):
                yield at, min(low, end)
            at = max(at, high)
        if at < end:
            yield at, end

    def count(self, partition: int, begin: int) -> int:
        """How many records that is."""
        return sum(end - at for at, end in self.spans(partition, begin))


def plan_step(offsets: Offsets, supply: Supply, count: int, turn: int) -> tuple[Range, ...] | None:
    """Ranges of `count` records that begin at `offsets` (or at a partition's first), or None: there are fewer.

    What shares leave over goes round with `turn` (the step), so that no partition is always the first.
    """
    there = {
        partition: found
        for partition in sorted(supply.bounds)
        if (found := supply.count(partition, offsets.get(partition, 0)))
    }
    if sum(there.values()) < count:
        return None
    ranges: list[Range] = []
    for partition, share in shares(there, count, turn).items():
        for begin, end in supply.spans(partition, offsets.get(partition, 0)):
            taken = min(share, end - begin)
            if taken:
                ranges.append((partition, begin, begin + taken))
            share -= taken
    return tuple(ranges)


def shares(there: Mapping[int, int], count: int, turn: int) -> dict[int, int]:
    """Partition -> how many of `count`: equal, but for those that have fewer; `there` must hold enough."""
    found: dict[int, int] = {}
    left, open_ = count, sorted(there, key=lambda partition: (there[partition], partition))
    while open_ and there[open_[0]] <= left // len(open_):
        poorest = open_.pop(0)
        found[poorest] = there[poorest]
        left -= there[poorest]
    rest = sorted(open_)
    for place, partition in enumerate(rest):
        even, over = divmod(left, len(rest))
        found[partition] = even + ((place - turn) % len(rest) < over)
    return dict(sorted(found.items()))


def lost(offsets: Offsets, supply: Supply) -> dict[int, int]:
    """Partition -> how many records went before they were read: its first is beyond where the run is."""
    return {
        partition: first - offsets[partition]
        for partition, (first, _) in supply.bounds.items()
        if partition in offsets and first > offsets[partition]
    }


def quarantined(ranges: Sequence[Range], quarantine: Mapping[int, Spans]) -> bool:
    """Whether a step takes what must not be taken."""
    return any(
        begin < high and low < end for partition, begin, end in ranges for low, high in quarantine.get(partition, ())
    )


def merged(spans: Spans) -> Spans:
    """In order, apart, and none of them empty."""
    out: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if out and low <= out[-1][1]:
            out[-1] = out[-1][0], max(high, out[-1][1])
        elif low < high:
            out.append((low, high))
    return out


def bulk_before(step: int, batch_size: int, ratio: Fraction) -> int:
    """How many samples of the other set the steps 1 ... `step` - 1 hold, where `ratio` of all comes from there."""
    return int((step - 1) * batch_size * ratio)


def records_of(step: int, batch_size: int, ratio: Fraction) -> int:
    """How many records step `step` takes of the stream."""
    return batch_size - (bulk_before(step + 1, batch_size, ratio) - bulk_before(step, batch_size, ratio))
