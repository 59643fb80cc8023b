"""What a stream is: partitions of records with offsets. Two things keep one: the embedded log, and Kafka."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.spec.quantities import nearest

LARGEST_BYTES = 64 << 20  # of one record


@dataclass(frozen=True, slots=True)
class Bounds:
    """Offsets `first <= offset < end` of a partition can be read; `sealed`: nothing will come behind them."""

    first: int
    end: int
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it was appended; `time_s` (seconds since 1970) is when that was."""

    partition: int
    offset: int
    value: bytes
    time_s: float
    key: bytes | None = None


class Stream(Protocol):
    """Partitions 0..n-1, each an endless list of records. Offsets only grow; on Kafka some may hold no record."""

    url: str

    def bounds(self) -> dict[int, Bounds]:
        """What can be read now, by partition. Cheap. Raises `Away`."""

    def append(
        self, values: Sequence[bytes], *, partition: int | None = None, key: bytes | None = None
    ) -> list[tuple[int, int]]:
        """Add records, all to one partition (that of the key, or the next one); (partition, offset) of each.

        When it returns they are kept under the stream's sync policy. Raises `Sealed`, `Away`, `Full`.
        """

    def read(self, partition: int, offset: int, *, limit: int = 1000) -> list[Record]:
        """At most `limit` records from `offset` on; none at the end. Raises `Expired`, `Damaged`, `Away`."""

    def wait(self, beyond: Mapping[int, int], timeout_s: float) -> bool:
        """Sleep until a partition ends beyond its offset there, is new, or is sealed; False when the time is over.

        A partition that was sealed before the call, and ends where `beyond` says, wakes nobody.
        """

    def seal(self) -> None:
        """Say that nothing more will come; appending is refused from now on."""

    def close(self) -> None:
        """Give back what is held open; the stream stays as it is."""


class Expired(SpringtideError):
    """Retention overtook a reader: records from `offset` to below `first` are gone."""

    def __init__(self, partition: int, offset: int, first: int, url: str) -> None:
        super().__init__(
            f"{url}: records {offset:,} to {first - 1:,} of partition {partition} ({first - offset:,} of them) were "
            f"removed by the stream's retention before they were read; reading can go on at {first:,}"
        )
        self.partition, self.offset, self.first = partition, offset, first


class Away(SpringtideError):
    """What keeps the stream cannot be reached now."""


class Sealed(Refused):
    """Somebody said that nothing more would come."""


class Full(SpringtideError):
    """There is no room for what was to be appended; nothing of it was kept."""


class Damaged(SpringtideError):
    """Stored bytes are not those that were written. Records `offset` to below `next_offset` cannot be read."""

    def __init__(self, partition: int, offset: int, next_offset: int, file: str, position: int, what: str) -> None:
        lost = f"record {offset:,}" if next_offset == offset + 1 else f"records {offset:,} to {next_offset - 1:,}"
        super().__init__(
            f"{file}: {what} at byte {position:,}: {lost} of partition {partition} cannot be read; "
            f"reading can go on at {next_offset:,}"
        )
        self.partition, self.offset, self.next_offset = partition, offset, next_offset
        self.file, self.position = file, position


def partition_of(key: bytes, partitions: int) -> int:
    """Where records of that key go: the same for both kinds of stream."""
    return zlib.crc32(key) % partitions


def open_stream(url: str, *, create: bool = False, partitions: int = 1, sync: str = "10ms") -> Stream:
    """The stream at `log:///absolute/path` or `kafka://host:port/topic`.

    With `create`, one that is not there is made, with so many partitions and (the log) that sync policy: what is
    appended is on the disk when `append` returns ("each"), after so long ("10ms"), or when the kernel likes ("os"). A
    log that is there keeps its policy, and is given more partitions when it has fewer. Raises UserError, `Away`.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise UserError(f'"{url}" is no stream; write log:///absolute/path or kafka://host:9092/topic')
    match scheme:
        case "log":
            from springtide.data.streams.log import LogStream

            return LogStream(rest, create=create, partitions=partitions, sync=sync)
        case "kafka":
            from springtide.data.streams.kafka import KafkaStream

            return KafkaStream(rest, create=create, partitions=partitions)
    hint = nearest(scheme, ("log", "kafka")) or "; write log:///absolute/path or kafka://host:9092/topic"
    raise UserError(f'{url}: no stream is kept by "{scheme}"{hint}')
