"""What was answered, added to a stream by a thread of its own: an answer never waits for it, and is never lost with it.

What does not fit into the bounded queue, or cannot be written, is dropped and counted.
"""

from __future__ import annotations

import importlib
import logging
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from springtide.data.streams import Stream, open_stream
from springtide.data.streams.stream import LARGEST_BYTES, partition_of
from springtide.serve.server import plain, rollout
from springtide.serve.server.metrics import Metrics
from springtide.spec.errors import SpringtideError, UserError

_log = logging.getLogger("springtide.serve")
_GATHER_S = 0.02  # for which records are gathered before they are written: one write and one sync for all of them
_AGAIN_S = 1.0  # between tries to reach a stream that is away
_BLOCK = 1000

Redact = Callable[[dict[str, Any]], dict[str, Any] | None]


class Journal:
    """`sample`: the share of requests that is kept, by the hash of their ids."""

    def __init__(
        self, url: str, metrics: Metrics, *, sample: float = 1.0, redact: Redact | None = None, most: int = 10_000,
        most_bytes: int = 64 << 20,
    ) -> None:  # fmt: skip
        self.url, self.redact = url, redact
        self._metrics, self._sample, self._most, self._most_bytes = metrics, sample, most, most_bytes
        self._queue: queue.SimpleQueue[tuple[dict[str, Any], int] | None] = queue.SimpleQueue()
        self._put = self._put_bytes = self._done = self._done_bytes = 0  # each is written by one thread alone
        self._closing = threading.Event()
        self._stream: Stream | None = None
        self._opening = threading.Lock()
        self._away = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def add(self, record: dict[str, Any], size_bytes: int) -> None:
        """Never waits. `record["input"]` and `["output"]` may hold tensors by name."""
        if self._sample < 1 and not rollout.falls(record["id"], self._sample):
            return
        if self._put - self._done >= self._most or self._put_bytes - self._done_bytes + size_bytes > self._most_bytes:
            self._metrics.dropped("away" if self._away else "full")
            return
        self._put += 1
        self._put_bytes += size_bytes
        self._queue.put((record, size_bytes))

    def stream(self) -> Stream:
        """Opened on first use, and made if it is not there. SpringtideError: it cannot be reached."""
        with self._opening:
            if self._stream is None:
                self._stream = open_stream(self.url, create=True)
            return self._stream

    def encoded(self, record: dict[str, Any]) -> bytes | None:
        """As it is kept, redacted; None: it is not to be kept. What redaction fails on is not kept either."""
        told = {key: _plain(value) for key, value in record.items()}
        if self.redact is not None:
            try:
                kept = self.redact(told)
            except Exception as error:
                _log.warning("redaction failed: %s", type(error).__name__)
                kept = None
            if kept is None:
                self._metrics.dropped("redaction")
                return None
            told = kept
        content = msgspec.json.encode(told)
        if len(content) > LARGEST_BYTES:
            self._metrics.dropped("size")
            return None
        return content

    def close(self, timeout_s: float = 5.0) -> None:
        """What waits is written, if that can be done in time."""
        self._closing.set()
        self._queue.put(None)
        self._thread.join(timeout_s)
        if self._stream is not None and not self._thread.is_alive():
            self._stream.close()

    # --- the thread

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            self._closing.wait(_GATHER_S)
            block = [first]
            ended = False
            while len(block) < _BLOCK and not self._queue.empty():
                one = self._queue.get()
                if one is None:
                    ended = True
                    break
                block.append(one)
            self._write([record for record, _ in block])
            self._done += len(block)
            self._done_bytes += sum(size for _, size in block)
            if ended:
                return

    def _write(self, records: list[dict[str, Any]]) -> None:
        encoded = [(record["id"], self._encoded_or_none(record)) for record in records]
        waiting = [(id, content) for id, content in encoded if content is not None]
        while waiting:
            try:
                waiting = self._append(waiting)
                self._told(None)
            except (SpringtideError, OSError) as error:
                self._told(error)
                if self._closing.wait(_AGAIN_S):
                    self._metrics.dropped("away", len(waiting))
                    return

    def _append(self, waiting: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
        """Adds those of the first one's partition; what is left. A request lies where its feedback will."""
        stream = self.stream()
        partitions = len(stream.bounds())
        places = [partition_of(id.encode(), partitions) for id, _ in waiting]
        here = [content for (_, content), place in zip(waiting, places, strict=True) if place == places[0]]
        stream.append(here, partition=places[0])
        self._metrics.kept("request", len(here))
        return [one for one, place in zip(waiting, places, strict=True) if place != places[0]]

    def _encoded_or_none(self, record: dict[str, Any]) -> bytes | None:
        try:
            return self.encoded(record)
        except Exception as error:  # a redaction may return what JSON cannot hold
            _log.warning("a record cannot be written: %s", error)
            self._metrics.dropped("redaction")
            return None

    def _told(self, error: Exception | None) -> None:
        """Say once that the stream is away, and once that it is back."""
        if (error is not None) != self._away:
            self._away = error is not None
            _log.warning("%s: %s", self.url, error if error else "requests are added again")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping) and any(hasattr(one, "shape") for one in value.values()):
        return plain.kept_tensors(value)
    return plain.kept(value)


def redaction(words: str) -> Redact:
    """The function of MODULE:FUNCTION, found from the current folder too. UserError: it is not there."""
    module, _, function = words.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise UserError(f"--redact: {words}: {error}; write MODULE:FUNCTION") from None
    if not callable(found):
        raise UserError(f"--redact: {words} is no function; write MODULE:FUNCTION")
    return found  # type: ignore[no-any-return]
