"""The step log of a run on a stream: which offsets each step takes (Stream law).

A text file: a line for the log, then a line for each step, in order and without a gap. One process writes at a time; a
step is synced before a microbatch of it is handed out, and never changed from then on. Each line ends in a checksum of
its own, so what a crash tore is known and cut off. See `step_reader` for how a step is found.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from springtide.spec import SpringtideError
from springtide.train import durable

NAME = "steps.log"
MAP_EVERY = 64  # steps; each of these lines carries the offsets of all partitions
TAIL_BYTES = 4 << 20  # more than is ever written at once: only that much may be torn

Range = tuple[int, int, int]  # partition, first offset, offset after the last
Offsets = Mapping[int, int]  # partition -> the next offset
Fields = list[Any]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first line: whose log it is, and from where it goes on; counts are what the run had counted by then."""

    run_id: str
    step: int = 0
    offsets: Offsets = field(default_factory=dict)
    samples: int = 0
    checksum: int = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """One step. `records` and `checksum`: of all records since the beginning of the log, this step's among them."""

    step: int
    ranges: tuple[Range, ...]
    records: int
    checksum: int  # modulo 2^64
    offsets: Offsets | None = None  # after this step, in every 64th


@dataclass(frozen=True, slots=True)
class Planned:
    """What a step takes, before it is written: ranges, and the sum over their records."""

    ranges: tuple[Range, ...]
    checksum: int


class Writer:
    """The one who writes. Its lock goes with its process."""

    def __init__(self, path: Path) -> None:
        """Take the lease and cut off what a crash tore. SpringtideError: another process has it."""
        from springtide.train.step_reader import Reader

        self.path = path
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._handle)
            raise SpringtideError(f"{path} is written by another process; one run has one step log") from None
        self._reader = Reader(path)
        self.beginning: Beginning | None = None
        self.last: Entry | None = None
        self.offsets: dict[int, int] = {}  # after the last step
        self._cut(_whole_bytes(self._handle))
        self._look()

    @property
    def step(self) -> int:
        """The last step in the log, or the one that it goes on from."""
        if self.last is not None:
            return self.last.step
        return self.beginning.step if self.beginning is not None else 0

    def begin(self, beginning: Beginning) -> None:
        """Begin anew; what the log held is gone."""
        self._cut(0)
        self._append(encode_beginning(beginning))
        with suppress(OSError):  # a file without a name
            durable.sync(self.path.parent)
        self._look()

    def append(self, steps: Sequence[Planned]) -> None:
        """Write the next steps and wait until the disk has them all. SpringtideError: it does not take them."""
        lines, last, offsets = [], self.last, dict(self.offsets)
        step, records, total = self.step, last.records if last else 0, last.checksum if last else 0
        for planned in steps:
            step, records = step + 1, records + sum(end - begin for _, begin, end in planned.ranges)
            total = (total + planned.checksum) & (1 << 64) - 1
            offsets.update((partition, end) for partition, _, end in planned.ranges)
            last = Entry(step, planned.ranges, records, total, dict(offsets) if step % MAP_EVERY == 0 else None)
            lines.append(encode(last))
        self._append(b"".join(lines))
        self.last, self.offsets = last, offsets

    def entry(self, step: int) -> Entry | None:
        """A step that was written."""
        return self._reader.entry(step)

    def offsets_after(self, step: int) -> dict[int, int]:
        """The next offset of each partition after a step that was written, or at the beginning."""
        return self._reader.offsets(step)

    def cut_after(self, step: int) -> None:
        """Take back the steps after that one, of which nothing was handed out."""
        self._cut(self._reader.end_of(step))
        self._look()

    def close(self) -> None:
        """Give the lease back."""
        os.close(self._handle)
        self._reader.close()

    def _look(self) -> None:
        self._reader.forget()
        self.beginning, self.last = self._reader.beginning(), self._reader.last()
        self.offsets = self._reader.offsets(self.step) if self.beginning is not None else {}

    def _append(self, data: bytes) -> None:
        end = os.lseek(self._handle, 0, os.SEEK_END)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._handle, view) :]
            os.fdatasync(self._handle)
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._handle, end)
            reason = (error.strerror or str(error)).lower()
            raise SpringtideError(f"the step log {self.path} cannot be written: {reason}") from error

    def _cut(self, size_bytes: int) -> None:
        if os.fstat(self._handle).st_size != size_bytes:
            os.ftruncate(self._handle, size_bytes)
            os.fsync(self._handle)


def encode_beginning(beginning: Beginning) -> bytes:
    """The first line."""
    pairs = [[partition, offset] for partition, offset in sorted(beginning.offsets.items())]
    return _checked([beginning.run_id, beginning.step, pairs, beginning.samples, beginning.checksum])


def decode_beginning(fields: Fields) -> Beginning:
    run_id, step, pairs, samples, checksum = fields
    return Beginning(run_id, step, dict(pairs), samples, checksum)


def encode(entry: Entry) -> bytes:
    """The line of a step."""
    fields: Fields = [entry.step, [list(part) for part in entry.ranges], entry.records, entry.checksum]
    if entry.offsets is not None:
        fields.append([[partition, offset] for partition, offset in sorted(entry.offsets.items())])
    return _checked(fields)


def decode(fields: Fields) -> Entry:
    step, ranges, records, checksum, *more = fields
    offsets = dict(more[0]) if more else None
    return Entry(step, tuple((partition, begin, end) for partition, begin, end in ranges), records, checksum, offsets)


def fields_of(line: bytes) -> Fields | None:
    """What a line (without its end) holds; None: it was torn or changed."""
    text, _, check = line.rpartition(b" ")
    if len(check) != 8 or check != b"%08x" % zlib.crc32(text):
        return None
    found: Fields = json.loads(text)
    return found


def _checked(fields: Fields) -> bytes:
    text = json.dumps(fields, separators=(",", ":")).encode()
    return b"%s %08x\n" % (text, zlib.crc32(text))


def _whole_bytes(handle: int) -> int:
    """How much of the file is whole: up to the first line of its tail that is not. What was synced is not doubted."""
    size = os.fstat(handle).st_size
    begin = max(0, size - TAIL_BYTES)
    tail = os.pread(handle, size - begin, begin)
    at = tail.find(b"\n") + 1 if begin else 0
    while (end := tail.find(b"\n", at)) >= 0 and fields_of(tail[at:end]) is not None:
        at = end + 1
    return begin + at
