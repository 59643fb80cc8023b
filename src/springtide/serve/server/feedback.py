"""Corrections of answers: each belongs to an id that was answered, once, and is on the disk before it is confirmed.

What this process answered it remembers; what others did it finds in the stream itself, of which it reads what is new
whenever a correction comes.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from springtide.data.streams import Damaged, Expired, Stream
from springtide.serve.server.faults import RETRY_S, Fault
from springtide.serve.server.journal import Journal
from springtide.serve.server.metrics import Metrics
from springtide.serve.server.protocol import checked_id
from springtide.spec.errors import SpringtideError

REMEMBERED = 100_000
_DISK_S = 10.0  # a slow disk
_GRACE_S = 0.25  # an answer that another process gave a moment ago may be on its way into the stream


class _Line(msgspec.Struct):
    """What is looked for in a record; all else in it is skipped."""

    kind: str = ""
    id: str = ""
    model: str = ""
    version: int = 0


_LINE = msgspec.json.Decoder(_Line)
Origin = tuple[str, int]  # the model and version that answered


class _Bounded(OrderedDict[str, Any]):
    """The newest so many."""

    def note(self, key: str, value: Any) -> None:
        self[key] = value
        if len(self) > REMEMBERED:
            self.popitem(last=False)


class Feedback:
    """`answered` is called by the event loop, `take` by one thread at a time."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self._journal, self._metrics = journal, metrics
        self._own, self._seen, self._corrected = _Bounded(), _Bounded(), _Bounded()
        self._next: dict[int, int] = {}
        self._lock = threading.Lock()

    def answered(self, id: str, model: str, version: int) -> None:
        self._own.note(id, (model, version))

    def take(self, body: bytes) -> dict[str, Any]:
        """The record that was added. Fault: no such id (404), it has one already (409), the stream is away (503)."""
        given = _read(body)
        id = given["id"]
        with self._lock:
            try:
                return self._take(id, given, self._journal.stream())
            except SpringtideError as error:
                if isinstance(error, Fault):
                    raise
                raise Fault(f"the feedback cannot be kept now: {error}", 503, RETRY_S) from None

    def _take(self, id: str, given: dict[str, Any], stream: Stream) -> dict[str, Any]:
        self._catch_up(stream)
        if id in self._corrected:
            raise _twice(id)
        origin = self._origin(id, stream)
        if origin is None:
            raise Fault(f'no answer has the id "{id}"; send the id that came with the answer', 404)
        model, version = origin
        record = given | {"kind": "feedback", "model": model, "version": version, "time": time.time()}
        if (content := self._journal.encoded(record)) is None:
            return record
        place = stream.append([content], key=id.encode())[0]  # all feedback of one id is in one partition: one is first
        # What can be read is on the disk, and so is all before it: only then it is known who was first.
        if not self._read_until(stream, lambda: self._next.get(place[0], 0) > place[1], _DISK_S):
            raise Fault("the feedback is not on the disk yet; send it again to learn whether it counts", 503, RETRY_S)
        if self._corrected.setdefault(id, place) != place:
            raise _twice(id)
        self._metrics.kept("feedback")
        return record

    def _origin(self, id: str, stream: Stream) -> Origin | None:
        """Who answered under that id, if anybody did."""
        if (own := self._own.get(id)) is not None:
            return own[0], own[1]
        self._read_until(stream, lambda: id in self._seen, _GRACE_S)
        found: Origin | None = self._seen.get(id)
        return found

    def _read_until(self, stream: Stream, done: Callable[[], bool], timeout_s: float) -> bool:
        """Reads what comes until that holds. False: the time is over."""
        until_s = time.monotonic() + timeout_s
        while not done():
            left_s = until_s - time.monotonic()
            if left_s <= 0 or not stream.wait(self._next, left_s):
                return done()
            self._catch_up(stream)
        return True

    def _catch_up(self, stream: Stream) -> None:
        """Read what is new; of what is long past only the newest."""
        for partition, bounds in stream.bounds().items():
            at = max(self._next.get(partition, bounds.end - REMEMBERED), bounds.first)
            while at < bounds.end:
                try:
                    records = stream.read(partition, at)
                except Expired as gone:
                    at = gone.first
                    continue
                except Damaged as damaged:
                    at = damaged.next_offset
                    continue
                if not records:
                    break
                for record in records:
                    self._note(record.value, (partition, record.offset))
                at = records[-1].offset + 1
            self._next[partition] = at

    def _note(self, content: bytes, place: tuple[int, int]) -> None:
        try:
            line = _LINE.decode(content)
        except msgspec.MsgspecError:  # somebody else's record
            return
        if line.kind == "feedback" and line.id not in self._corrected:
            self._corrected.note(line.id, place)
        elif line.kind == "request":
            self._seen.note(line.id, (line.model, line.version))


def _read(body: bytes) -> dict[str, Any]:
    try:
        given = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        given = None
    if not isinstance(given, dict) or not isinstance(given.get("id"), str) or "correct" not in given:
        raise Fault('feedback is a JSON object: write {"id": "the id of the answer", "correct": ...}')
    checked_id(given["id"])
    return given


def _twice(id: str) -> Fault:
    return Fault(f'the answer "{id}" has its feedback already; it counts once', 409)
