"""Where `process` writes: records and how far their producer has come, both or neither."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from springtide.data.streams.log import LogStream
from springtide.data.streams.stream import open_stream
from springtide.spec.errors import UserError


class Sink(Protocol):
    """One stream that is written to exactly once."""

    url: str
    leases: Path | None  # a folder for the locks of those who write; None: it has none of its own

    def progress(self, producer: str) -> int | None:
        """How far that producer has come. None: it has not begun."""

    def take_over(self, producer: str) -> int | None:
        """The same; from now on nothing comes from an earlier one of that name."""

    def put(self, producer: str, partition: int, values: Sequence[bytes], position: int) -> None:
        """Add records, all made from what lies below `position`, and note that it has come so far."""

    def close(self) -> None:
        """Give back what is held open."""


class LogSink:
    """The notes of the embedded log: in one frame with the records."""

    def __init__(self, url: str) -> None:
        opened = open_stream(url, create=True)
        assert isinstance(opened, LogStream)
        self.url, self._log = url, opened
        self.leases: Path | None = opened.folder / "leases"

    def progress(self, producer: str) -> int | None:
        known = [notes[producer] for notes in self._log.positions().values() if producer in notes]
        return max(known, default=None)

    def take_over(self, producer: str) -> int | None:
        # Who died cannot write any more: what he had given to the kernel is there, all else is not.
        return self.progress(producer)

    def put(self, producer: str, partition: int, values: Sequence[bytes], position: int) -> None:
        note = json.dumps({producer: position}).encode()
        self._log.append(values, partition=partition % len(self._log.partitions()), note=note)

    def close(self) -> None:
        self._log.close()


def open_sink(url: str) -> Sink:
    """Raises UserError, `Away`."""
    match url.partition("://")[0]:
        case "log":
            return LogSink(url)
        case "kafka":
            from springtide.data.streams.kafka_sink import KafkaSink

            return KafkaSink(url)
    raise UserError(f"{url}: records are written to log:///absolute/path or kafka://host:9092/topic")
