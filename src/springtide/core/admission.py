"""Who gets its minimum: whole or not at all (a service: every replica that fits), within quota, in order."""

from __future__ import annotations

from springtide.core import placement, preemption
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import IntArray
from springtide.core.snapshot import SERVICE


def admit(draft: Draft, queue: IntArray) -> None:
    """Goes down the queue; what does not fit waits with its reason."""
    hopeless: set[tuple[int, int]] = set()  # (shape, replicas): what did not fit a moment ago does not fit now
    for row in queue.tolist():
        lacking = int(draft.need[row] - draft.count[row])
        key = (int(draft.jobs.shape[row]), lacking)
        slots = [] if key in hopeless else placement.choose(draft, row, lacking)
        if len(slots) < lacking:
            slots = preemption.make_room(draft, row, lacking) or slots
        if len(slots) == lacking or (slots and draft.jobs.kind[row] == SERVICE):
            draft.take(row, slots, Reason("{} replicas fit", (len(slots),)))
        if len(slots) < lacking:
            hopeless.add(key)
            draft.wait(row, Reason("waits for {} replicas: {} fit", (lacking, len(slots))))
