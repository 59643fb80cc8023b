"""The order of a run on a stream: what the step log says (Stream law), and a share of a bulk set by the Order law."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from springtide.data.fingerprint import fingerprint
from springtide.data.order import Indices, Order, checksum, key_of, permute
from springtide.data.streams.source import Source, number_of
from springtide.spec import SpringtideError
from springtide.train.step_log import Entry, Range
from springtide.train.step_reader import Reader
from springtide.train.stream_plan import bulk_before

_STEPS_AT_ONCE = 4096


@dataclass
class StreamOrder:
    """An `OrderLike`. A step's records stand in the order of its ranges; `follow` says where the log is.

    Where a bulk set is mixed in, a permutation by (seed, step) says which places of the batch its samples take, and
    `bulk` which samples they are.
    """

    fingerprint: str
    seed: int
    batch_size: int
    microbatches: int
    ratio: Fraction = Fraction(0)
    bulk: Order | None = None
    count: int = 0  # samples in the data: nobody knows

    def __post_init__(self) -> None:
        self._log: Reader | None = None
        self._planned: Callable[[], int] = lambda: 0
        self._counted: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._batch: tuple[int, Indices] | None = None

    def follow(self, log: Path, planned: Callable[[], int], counted: Callable[[], tuple[int, int]]) -> None:
        """`planned()` is the last step that may be asked for, `counted()` what the state itself says was counted."""
        self._log, self._planned, self._counted = Reader(log, planned), planned, counted

    def ready(self, step: int) -> bool:
        """Whether that step is settled."""
        return step <= self._planned()

    def indices(self, step: int, microbatch: int) -> Indices:
        """The numbers of the samples, as `Source` takes them."""
        known = self._batch
        if known is None or known[0] != step:
            known = self._batch = step, self._whole(step)
        size = self.batch_size // self.microbatches
        return known[1][microbatch * size : (microbatch + 1) * size]

    def ranges(self, step: int) -> tuple[Range, ...]:
        """What that step takes of the stream."""
        return self._entry(step).ranges

    def offsets(self, step: int, before: Mapping[str, int] | None) -> dict[str, int]:
        """The next offset of each partition after that step, given those before it (None: at the log's beginning).

        Partitions are texts here, as in JSON.
        """
        if before is None:
            assert self._log is not None
            begun = self._log.beginning()
            before = {str(partition): offset for partition, offset in begun.offsets.items()} if begun else {}
        return {**before, **{str(partition): end for partition, _, end in self.ranges(step)}}

    def steps(self, epochs: float) -> int:
        """A stream has no epochs."""
        raise SpringtideError(f"a stream has no end that {epochs} epochs could be counted by")

    def epoch(self, step: int) -> float:
        """None is ever completed."""
        del step
        return 0.0

    def expected(self, steps: int) -> tuple[int, int]:
        """How many samples the steps 1 ... `steps` count, and their checksum modulo 2**64."""
        assert self._log is not None
        begun = self._log.beginning()
        if begun is None:  # nothing was ever handed out
            return self._counted()
        samples, total = begun.samples, begun.checksum
        if steps > begun.step:
            entry = self._entry(steps)
            samples, total = samples + entry.records, total + entry.checksum
            for first in range(begun.step + 1, steps + 1, _STEPS_AT_ONCE) if self.bulk is not None else ():
                mixed = self._bulk_numbers(first, min(first + _STEPS_AT_ONCE - 1, steps))
                samples, total = samples + len(mixed), total + checksum(mixed)
        return samples, total & (1 << 64) - 1

    def expected_of(self, step: int) -> tuple[int, int]:
        """The same for step `step` alone."""
        return self.batch_size, checksum(self._whole(step))

    def _entry(self, step: int) -> Entry:
        assert self._log is not None
        found = self._log.entry(step)
        if found is None:
            raise SpringtideError(f"step {step} is not in the step log")
        return found

    def _whole(self, step: int) -> Indices:
        records = numbers(self.ranges(step))
        if self.bulk is None:
            return records
        batch = np.empty(self.batch_size, dtype=np.int64)
        places = permute(
            np.arange(self.batch_size, dtype=np.uint64), self.batch_size, np.uint64(key_of("mix", self.seed, step))
        ).astype(np.int64)
        mixed = self.batch_size - len(records)
        batch[np.sort(places[:mixed])] = self._bulk_numbers(step, step)
        batch[np.sort(places[mixed:])] = records
        return batch

    def _bulk_numbers(self, first: int, last: int) -> NDArray[np.int64]:
        assert self.bulk is not None
        begin = bulk_before(first, self.batch_size, self.ratio)
        end = bulk_before(last + 1, self.batch_size, self.ratio)
        return np.asarray(-1 - self.bulk.stream(begin, end - begin), dtype=np.int64)


def of(source: Source, name: str, seed: int, batch_size: int, microbatches: int) -> StreamOrder:
    """The order of a run on that stream; `name` is its fingerprint."""
    bulk = None
    if source.mix is not None:
        bulk = Order(fingerprint(source.mix), seed, len(source.mix), 1, 1)
    return StreamOrder(name, seed, batch_size, microbatches, Fraction(source.rules.ratio), bulk)


def numbers(ranges: tuple[Range, ...]) -> Indices:
    """The numbers of the records in these ranges."""
    parts = [
        np.arange(number_of(partition, begin), number_of(partition, end), dtype=np.int64)
        for partition, begin, end in ranges
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
