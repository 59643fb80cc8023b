"""Follows what users ask and correct, and says when it differs from what production was trained on.

The reference are the inputs that had been corrected when production was promoted. Memory is bounded by the windows; who
is far behind goes on near the end, since only the latest matter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from springtide.data.streams import Expired, Record, Stream, open_stream
from springtide.data.streams.join import Join
from springtide.pool import circle_files
from springtide.serve import prepare
from springtide.serve.loop import drift
from springtide.serve.loop.circle import DriftSeen
from springtide.serve.loop.places import Places
from springtide.spec.errors import SpringtideError
from springtide.spec.loop import Loop

_BEHIND = 20_000  # entries of a partition
_AT_ONCE = 4_000  # entries that are read in one look
_KEPT = 500  # values of a field that a reference keeps on the disk
_VERSIONS = 8


class Watching:
    """See the module. Nothing is lost with it: who begins anew reads the latest entries again."""

    def __init__(self, loop: Loop, there: Places) -> None:
        self._loop, self._there, self._said = loop, there, loop.drift
        self._stream: Stream | None = None
        self._at: dict[int, int] = {}
        self._joins: dict[int, Callable[[Record, Any], Any]] = {}
        self._recent, self._corrected = drift.Window(self._said.window), drift.Window(self._said.window)
        self._answers = drift.Answers(self._said.window, self._said.accuracy)
        self._versions: dict[str, list[int]] = {}  # version -> [right, corrected]
        self._of: int | None = None  # the version that the reference belongs to
        self._reference = drift.Window(self._said.window)
        self._drifted: set[str] = set()
        self._fell = False
        self._changed = False
        self._read_reference()

    def look(self, version: int | None) -> list[DriftSeen]:
        """Reads what is new; what began to differ, or ceased to. `version` is in production."""
        try:
            for record in self._new():
                self._take(record)
        except SpringtideError:
            self._stream = None  # it is opened again next time; nobody waits for this
        if version is not None and version != self._of:
            self._renew(version)
        if not self._changed:
            return []
        self._changed = False
        found = drift.drifted(self._reference, self._recent)
        self._write(found)
        return [*self._inputs(found), *self._accuracy()]

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    # --- reading

    def _new(self) -> Iterator[Record]:
        if self._stream is None:
            self._stream = open_stream(self._there.requests(self._loop))
        for partition, bounds in self._stream.bounds().items():
            at = max(self._at.get(partition, 0), bounds.first, bounds.end - _BEHIND)
            end = min(bounds.end, at + _AT_ONCE)
            while at < end:
                try:
                    records = self._stream.read(partition, at, limit=min(1000, end - at))
                except Expired as error:
                    at = error.first
                    continue
                if not records:
                    break
                at = records[-1].offset + 1
                yield from records
            self._at[partition] = at

    def _take(self, record: Record) -> None:
        try:
            entry = json.loads(record.value)
        except ValueError:
            return
        if not isinstance(entry, dict):
            return
        self._changed = True
        if entry.get("kind") == "request":
            self._recent.add(drift.numbers(entry.get("input")))
        if record.partition not in self._joins:
            self._joins[record.partition] = Join(prepare.joined).fresh()
        pair = self._joins[record.partition](record, entry)
        if pair is None:
            return
        self._corrected.add(drift.numbers(pair["input"]))
        good = drift.right(pair["output"], pair["correct"], self._said.answer)
        self._fell = self._answers.add(good) or self._fell
        counts = self._versions.setdefault(str(pair["version"]), [0, 0])
        counts[0] += good
        counts[1] += 1
        while len(self._versions) > _VERSIONS:
            self._versions.pop(next(iter(self._versions)))

    # --- comparing

    def _renew(self, version: int) -> None:
        """Another model is in production: what it was trained on is the reference from now on."""
        corrected, recent = self._corrected.values(), self._recent.values()
        values = {name: _some(corrected.get(name) or recent[name]) for name in recent}
        self._of, self._reference, self._drifted = version, drift.Window.of(values, self._said.window), set()
        said = {"version": version, "values": values}
        circle_files.write(self._there.folder / "reference.json", json.dumps(said).encode())
        self._changed = True

    def _read_reference(self) -> None:
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads((self._there.folder / "reference.json").read_bytes())
            self._of, self._reference = int(said["version"]), drift.Window.of(said["values"], self._said.window)

    def _inputs(self, found: dict[str, float]) -> Iterator[DriftSeen]:
        limit = self._said.inputs
        for name, index in found.items():
            if index > limit and name not in self._drifted:
                self._drifted.add(name)
                yield DriftSeen(
                    f"drift: {name} differs from what version {self._of} was trained on (stability index {index:.2f}, "
                    f"from {limit:g} on it counts)"
                )
            elif index < limit / 2 and name in self._drifted:  # half of it, so that it does not flutter
                self._drifted.remove(name)
                yield DriftSeen(f"drift: {name} is again as it was (stability index {index:.2f})")

    def _accuracy(self) -> Iterator[DriftSeen]:
        if self._fell and self._answers.accuracy is not None:
            share, count = self._answers.accuracy, self._answers.count
            yield DriftSeen(
                f"drift: answers are right less often than before: {share:.0%} of the last {count} corrected"
            )
        self._fell = False

    def _write(self, found: dict[str, float]) -> None:
        said = {
            "at_s": time.time(), "reference": self._of, "inputs": {name: round(one, 4) for name, one in found.items()},
            "drifted": sorted(self._drifted), "limit": self._said.inputs, "accuracy": self._answers.accuracy,
            "corrected": self._answers.count, "falls": self._answers.falls,
            "versions": {name: {"right": good, "corrected": all} for name, (good, all) in self._versions.items()},
        }  # fmt: skip
        circle_files.write(self._there.drift, json.dumps(said, indent=1).encode())


def _some(values: list[float]) -> list[float]:
    """At most so many of them, evenly by rank: as good for comparing."""
    ordered = sorted(values)
    if len(ordered) <= _KEPT:
        return ordered
    return [ordered[place * len(ordered) // _KEPT] for place in range(_KEPT)]
