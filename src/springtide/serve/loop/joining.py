"""Brings a correction to the request that it corrects, by id. Pure, and of bounded memory.

What comes out depends on the last `WINDOW` entries alone. So whoever begins in the middle of a stream reads that many
entries again first, and goes on as if it had never stopped: that is what makes the join exact across a crash.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

WINDOW = 50_000  # entries between a request and its correction at most
Entry = Mapping[str, Any]


def entry(value: bytes) -> dict[str, Any] | None:
    """A record of the request stream; None: it is none."""
    try:
        found = json.loads(value)
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("id"), str) else None


class Joining:
    """Requests that wait for their correction; the oldest go first. A request is corrected once."""

    def __init__(self, window: int = WINDOW) -> None:
        self._window, self._at = window, 0
        self._open: OrderedDict[str, tuple[int, Entry | None]] = OrderedDict()  # None: it was corrected
        self.unknown = 0  # corrections of what was not asked, or too long ago
        self.twice = 0

    def take(self, one: Entry | None) -> dict[str, Any] | None:
        """The joined record, where this entry is the first correction of a request within the window."""
        self._at += 1
        while self._open and next(iter(self._open.values()))[0] <= self._at - self._window:
            self._open.popitem(last=False)
        match one:
            case None:
                return None
            case {"kind": "request", "id": str(id)}:
                # The later of two wins: of the earlier one who begins in the middle may know nothing.
                self._open[id] = self._at, one
                self._open.move_to_end(id)
            case {"kind": "feedback", "id": str(id), "correct": correct}:
                return self._corrected(id, correct, one)
        return None

    def _corrected(self, id: str, correct: Any, feedback: Entry) -> dict[str, Any] | None:
        if id not in self._open:
            self.unknown += 1
            return None
        at, request = self._open[id]
        if request is None:
            self.twice += 1
            return None
        self._open[id] = at, None
        return {
            "id": id, "input": request.get("input"), "output": request.get("output"), "correct": correct,
            "version": request.get("version"), "time": feedback.get("time"),
        }  # fmt: skip
