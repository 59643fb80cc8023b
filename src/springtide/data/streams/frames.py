"""One append as bytes in a segment: a frame, with a checksum over all of it. Pure functions on bytes.

    magic 4  checksum 4  body length 4  count 4  base offset 8  time 8 (us)  durable 8  note length 4  flags 4
    note | length of each value (4) | with keys: length of each key (4), 2^32-1 for none | keys | values

The checksum (CRC-32, begun with a number that belongs to log and segment, so that no frame of another place is taken
for one of this) is over everything behind it. `durable` is the partition's durable end when the frame was written:
what lies below it had been acknowledged, so damage there is never taken for the torn tail of a dead writer. A frame is
all or nothing; one without records carries a note only. A note names producers and how far each of them has come.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from springtide.data.streams.stream import Record

MAGIC = b"tSf1"
_HEADER = struct.Struct("<4sIIIQQQII")
HEADER_BYTES = _HEADER.size
_CHECKED_FROM = 8
_KEYED = 1
_NO_KEY = 2**32 - 1
LARGEST_BODY_BYTES = 2**31


@dataclass(frozen=True, slots=True)
class Header:
    """What stands before a frame's body. `offset` is that of its first record."""

    checksum: int
    body_bytes: int
    count: int
    offset: int
    time_us: int
    durable: int
    note_bytes: int
    flags: int

    @property
    def size_bytes(self) -> int:
        return HEADER_BYTES + self.body_bytes

    @property
    def end(self) -> int:
        """The offset behind its last record."""
        return self.offset + self.count


def encode(
    values: Sequence[bytes],
    *,
    offset: int,
    time_us: int,
    durable: int,
    seed: int,
    key: bytes | None = None,
    note: bytes = b"",
) -> bytes:
    """A whole frame; `key` is that of every value."""
    count = len(values)
    parts = [note, struct.pack(f"<{count}I", *map(len, values))]
    if key is not None:
        parts += [struct.pack(f"<{count}I", *[len(key)] * count), key * count]
    body = b"".join([*parts, *values])
    flags = _KEYED if key is not None else 0
    header = _HEADER.pack(MAGIC, 0, len(body), count, offset, time_us, durable, len(note), flags)
    checksum = zlib.crc32(body, zlib.crc32(header[_CHECKED_FROM:], seed))
    return b"".join((header[:4], checksum.to_bytes(4, "little"), header[_CHECKED_FROM:], body))


def header(data: bytes | memoryview, at: int = 0) -> Header | None:
    """The header that stands at byte `at`; None: there is none. Its checksum is not looked at."""
    if len(data) - at < HEADER_BYTES:
        return None
    magic, *fields = _HEADER.unpack_from(data, at)
    return Header(*fields) if magic == MAGIC and fields[1] <= LARGEST_BODY_BYTES else None


def intact(data: bytes | memoryview, at: int, found: Header, seed: int) -> bool:
    """Whether the frame of that header lies whole at byte `at`, as it was written."""
    end = at + found.size_bytes
    return end <= len(data) and zlib.crc32(memoryview(data)[at + _CHECKED_FROM : end], seed) == found.checksum


def records(data: bytes, at: int, found: Header, partition: int, start: int) -> Iterator[Record]:
    """Records of an intact frame at byte `at`, from offset `start` on."""
    count, time_s = found.count, found.time_us / 1e6
    position = at + HEADER_BYTES + found.note_bytes
    lengths = struct.unpack_from(f"<{count}I", data, position)
    position += 4 * count
    keys: Sequence[bytes | None] = ()
    if found.flags & _KEYED:
        keys, position = _keys(data, position, count)
    first = max(0, start - found.offset)
    position += sum(lengths[:first])
    for number in range(first, count):
        size = lengths[number]
        value = data[position : position + size]
        yield Record(partition, found.offset + number, value, time_s, keys[number] if keys else None)
        position += size


def _keys(data: bytes, position: int, count: int) -> tuple[list[bytes | None], int]:
    sizes = struct.unpack_from(f"<{count}I", data, position)
    position += 4 * count
    keys: list[bytes | None] = []
    for size in sizes:
        if size == _NO_KEY:
            keys.append(None)
        else:
            keys.append(data[position : position + size])
            position += size
    return keys, position


def note(data: bytes, at: int, found: Header) -> bytes:
    """The note of the frame at byte `at`."""
    begin = at + HEADER_BYTES
    return data[begin : begin + found.note_bytes]


def next_intact(data: bytes, at: int, seed: int) -> int | None:
    """Where the first intact frame at or behind byte `at` begins; None: there is none."""
    while (at := data.find(MAGIC, at)) >= 0:
        found = header(data, at)
        if found is not None and intact(data, at, found, seed):
            return at
        at += 1
    return None
