"""The words that all processes of a log share: how far each partition is written and durable, and the bell.

They live in a mapped file and are correct as long as the machine is up. Of a word that an earlier boot left nothing is
believed: `boot` tells, and recovery finds all of it again in the segments.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import time
import zlib
from enum import IntEnum
from pathlib import Path

from springtide.data.streams import bell
from springtide.data.streams.settings import MOST_PARTITIONS
from springtide.spec.errors import UserError

NAME = "marks"
_ROW_WORDS = 16
_HEAD_BYTES = 4096
_SIZE_BYTES = _HEAD_BYTES + MOST_PARTITIONS * _ROW_WORDS * 8
_COUNT, _BELL = 0, 8  # words of the head; each on a cache line of its own


class Word(IntEnum):
    """One partition's words. `DURABLE` has one writer at a time, by the sync lock; the others, by the write lock."""

    DURABLE = 0  # records below this offset are acknowledged
    FIRST = 1  # records below this offset were removed
    WRITTEN = 2  # records below this offset are written, but may not be on the disk
    SEGMENT = 3  # the first offset of the segment that is written to
    BYTES = 4  # its size
    DIRTY = 5  # 1: somebody is writing, or died of it
    FAILED = 6  # 1: the disk did not take a sync
    EPOCH = 7  # how often unacknowledged records were taken back
    EPOCH_END = 8  # the durable end when that was last done
    SYNCED_US = 9  # when the last sync began, on the monotonic clock
    RINGS = 10  # how often the bell was rung for this partition
    SEALED = 11
    NOTED = 12  # 1: the segment that is written to holds notes
    BOOT = 13  # these words belong to that boot of the machine
    INDEXED = 14  # bytes of that segment up to the last entry of its index


class Marks:
    """The mapped file of one log."""

    def __init__(self, folder: Path) -> None:
        if not bell.SUPPORTED:
            raise UserError("the embedded log needs Linux on x86-64 or aarch64; use kafka://HOST:PORT/TOPIC here")
        descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(descriptor, _SIZE_BYTES)
        finally:
            os.close(descriptor)
        whole = memoryview(self._map)
        self._head = whole[:_HEAD_BYTES].cast("Q")
        self._bell = whole[_BELL * 8 : _BELL * 8 + 4].cast("I")
        self._bell_address = ctypes.addressof(ctypes.c_char.from_buffer(self._map)) + _BELL * 8
        rows = whole[_HEAD_BYTES:].cast("Q")
        self.rows = [rows[at : at + _ROW_WORDS] for at in range(0, MOST_PARTITIONS * _ROW_WORDS, _ROW_WORDS)]

    @property
    def partitions(self) -> int:
        return self._head[_COUNT]

    @partitions.setter
    def partitions(self, count: int) -> None:
        self._head[_COUNT] = count

    @property
    def rung(self) -> int:
        """What to give to `sleep`: read it, look at the words, then sleep."""
        return self._bell[0]

    def ring(self, partition: int, number: int) -> None:
        """Wake everybody. `number` grows with each ring for a partition: so no two rings leave the same value, and no
        one who looked between them sleeps on."""
        self._bell[0] = (number * MOST_PARTITIONS + partition) & 0xFFFFFFFF
        bell.wake(self._bell_address)

    def sleep(self, rung: int, timeout_s: float) -> None:
        """Until the bell is rung after `rung` was read, or the time is over."""
        if timeout_s > 0:
            bell.wait(self._bell_address, rung, timeout_s)


def make(folder: Path) -> None:
    """A new file without a word in it; its room is taken, for a mapped page must never be missing on a full disk."""
    aside = folder / f".{NAME}"
    descriptor = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    try:
        os.posix_fallocate(descriptor, 0, _SIZE_BYTES)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    aside.replace(folder / NAME)


@functools.cache
def this_boot() -> int:
    """A number for the time since the machine was started; never 0."""
    return 1 + zlib.crc32(Path("/proc/sys/kernel/random/boot_id").read_bytes())


def now_us() -> int:
    """On the clock that all processes of this boot share."""
    return time.monotonic_ns() // 1000
