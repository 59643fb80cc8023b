"""Looks steps up in a step log, while another process may append to it."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from springtide.spec import SpringtideError
from springtide.train import step_log
from springtide.train.protocol import UNLIMITED
from springtide.train.step_log import MAP_EVERY, Beginning, Entry, Fields

_REMEMBERED = 1024  # steps
_BLOCK_BYTES = 1 << 16


class Reader:
    """Steps are in order, so one is found by halving the file; neighbours are kept. Forks may go on with it.

    `durable()` is the last step that may be read: what comes after it may still be taken back. SpringtideError: a line
    was changed.
    """

    def __init__(self, path: Path, durable: Callable[[], int] = lambda: UNLIMITED) -> None:
        self._path, self._durable = path, durable
        self._opened = -1
        self._process = 0
        self._kept: OrderedDict[int, Entry] = OrderedDict()
        self._at = 0  # what follows has not been read yet

    def beginning(self) -> Beginning | None:
        """The first line; None: there is none yet."""
        try:
            fields, _ = self._line_at(0)
        except FileNotFoundError:
            return None
        return None if fields is None else step_log.decode_beginning(fields)

    def entry(self, step: int) -> Entry | None:
        """That step; None: it is not in the log (yet)."""
        found = self._kept.get(step)
        if found is None and step <= self._durable():
            newest = next(reversed(self._kept), None)
            if newest is None or not newest < step <= newest + _REMEMBERED:
                self.forget()
                self._at = self._find(step)
            self._read_on(step)
            found = self._kept.get(step)
        return found

    def last(self) -> Entry | None:
        """The newest step."""
        size = os.fstat(self._handle).st_size
        begin = self._border(size - 1, 0) if size else 0
        fields = self._line_at(begin)[0] if begin else None
        return None if fields is None else step_log.decode(fields)

    def offsets(self, step: int) -> dict[int, int]:
        """The next offset of each partition after that step, which must be in the log or its beginning."""
        beginning = self.beginning()
        assert beginning is not None
        known, offsets = step // MAP_EVERY * MAP_EVERY, dict(beginning.offsets)
        if known > beginning.step:
            offsets |= self._sure(known).offsets or {}
        for number in range(max(known, beginning.step) + 1, step + 1):
            offsets |= {partition: end for partition, _, end in self._sure(number).ranges}
        return offsets

    def end_of(self, step: int) -> int:
        """Where the line after that step begins, in bytes."""
        return self._find(step + 1)

    def forget(self) -> None:
        """The log was changed."""
        self._kept.clear()
        self._at = 0

    def close(self) -> None:
        if self._process == os.getpid():
            os.close(self._opened)
            self._process = 0

    # --- lines

    @property
    def _handle(self) -> int:
        if self._process != os.getpid():
            self._opened, self._process = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC), os.getpid()
        return self._opened

    def _sure(self, step: int) -> Entry:
        found = self.entry(step)
        if found is None:
            raise SpringtideError(f"{self._path} is damaged: step {step} is missing")
        return found

    def _read_on(self, wanted: int) -> None:
        """Keep steps from where the last reading ended, through the block that the wanted one is in."""
        limit = self._durable()
        while not self._kept or next(reversed(self._kept)) < wanted:
            block = os.pread(self._handle, _BLOCK_BYTES, self._at)
            whole = block[: block.rfind(b"\n") + 1]
            if not whole:
                return
            for line in whole.splitlines():
                if self._at:
                    entry = step_log.decode(self._fields(line, self._at))
                    if entry.step > limit:
                        return
                    self._kept[entry.step] = entry
                self._at += len(line) + 1
        while next(iter(self._kept)) < wanted - _REMEMBERED:
            self._kept.popitem(last=False)

    def _find(self, step: int) -> int:
        """Where the line of that step begins; the end of the last whole line where it is not there."""
        _, low = self._line_at(0)
        size = os.fstat(self._handle).st_size
        high = max(low, self._border(size, low))
        while low < high:  # the answer is in [low, high], and both are borders
            middle = self._border((low + high) // 2, low)
            fields, after = self._line_at(middle)
            if fields is not None and fields[0] < step:
                low = after
            else:
                high = middle
        return low

    def _border(self, at: int, least: int) -> int:
        """Where the line begins that holds byte `at`."""
        size = 256
        while True:
            begin = max(least, at - size)
            newline = os.pread(self._handle, at - begin, begin).rfind(b"\n")
            if newline >= 0 or begin == least:
                return begin + newline + 1
            size *= 4

    def _line_at(self, at: int) -> tuple[Fields | None, int]:
        """The line that begins there, and where the next one does; None where it has no end yet."""
        size = 1024
        while True:
            block = os.pread(self._handle, size, at)
            end = block.find(b"\n")
            if end >= 0:
                return self._fields(block[:end], at), at + end + 1
            if len(block) < size:
                return None, at
            size *= 4

    def _fields(self, line: bytes, at: int) -> Fields:
        found = step_log.fields_of(line)
        if found is None:
            raise SpringtideError(f"{self._path} was changed at byte {at}: a line and its checksum disagree")
        return found
