"""Follows what users ask and correct, and says when it differs from what the model was made for.

The reference are the inputs of the loop's own held-out file, else the first window of requests. Not what was corrected:
users correct what went wrong, which is no fair sample. Memory is bounded by the windows; who is far behind goes on near
the end, since only the latest matter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from springtide.data.streams import Expired, Record, Stream, open_stream
from springtide.data.streams.join import Join
from springtide.pool import circle_files
from springtide.serve import gate, prepare
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
        self._recent = drift.Window(self._said.window)
        self._answers = drift.Answers(self._said.window, self._said.accuracy)
        self._versions: dict[str, list[int]] = {}  # version -> [right, corrected]
        self._of, self._reference = self._made_for()
        self._drifted: set[str] = set()
        self._fell = False
        self._changed = False

    def look(self) -> list[DriftSeen]:
        """Reads what is new; what began to differ, or ceased to."""
        try:
            for record in self._new():
                self._take(record)
        except SpringtideError:
            self._stream = None  # it is opened again next time; nobody waits for this
        if not self._changed:
            return []
        self._changed = False
        if not self._reference.values() and self._recent.full:
            self._keep()
        found = drift.drifted(self._reference, self._recent)
        events = [*self._inputs(found), *self._accuracy()]
        self._write(found)
        return events

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
        good = drift.right(pair["output"], pair["correct"], self._said.answer)
        self._fell = self._answers.add(good) or self._fell
        counts = self._versions.setdefault(str(pair["version"]), [0, 0])
        counts[0] += good
        counts[1] += 1
        while len(self._versions) > _VERSIONS:
            self._versions.pop(next(iter(self._versions)))

    # --- comparing

    def _made_for(self) -> tuple[str, drift.Window]:
        """The reference, and what it is called in a sentence."""
        found = drift.Window(self._said.window)
        held = self._loop.gate.data
        for record in gate.records_of(held) if held is not None else ():
            found.add(drift.numbers(record.get("input")))
        if held is not None and found.values():
            return f"the {len(next(iter(found.values().values())))} records of {Path(held).name}", found
        with suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(self._kept_at.read_bytes())
            return str(said["of"]), drift.Window.of(said["values"], self._said.window)
        return "", drift.Window(self._said.window)

    def _keep(self) -> None:
        """The first window is the reference from now on."""
        values = {name: _some(all) for name, all in self._recent.values().items()}
        self._of, self._reference = (
            f"the first {self._said.window} requests",
            drift.Window.of(values, self._said.window),
        )
        circle_files.write(self._kept_at, json.dumps({"of": self._of, "values": values}).encode())

    @property
    def _kept_at(self) -> Path:
        return self._there.folder / "reference.json"

    def _inputs(self, found: dict[str, float]) -> Iterator[DriftSeen]:
        limit = self._said.inputs
        for name, index in found.items():
            if index > limit and name not in self._drifted:
                self._drifted.add(name)
                yield DriftSeen(
                    f"drift: {name} differs from {self._of} (stability index {index:.2f}, from {limit:g} on it counts)"
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
