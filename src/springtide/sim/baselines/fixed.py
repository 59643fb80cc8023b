"""What policies that do not resize have in common: the sizes asked for, and services that follow their load."""

from __future__ import annotations

import numpy as np

from springtide.core import placement, tide
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.snapshot import SERVICE
from springtide.sim.trace import Trace


def asked_sizes(trace: Trace) -> dict[str, int]:
    """task -> replicas that its owner asked for, within its range."""
    return {task.name: min(max(task.asked, task.minimum), task.maximum) for task in trace.tasks}


def follow_services(draft: Draft) -> None:
    """Services have the replicas that their load needs, as far as free room goes; nobody makes room for them."""
    tide.need(draft)
    for row in np.flatnonzero(draft.jobs.kind == SERVICE).tolist():
        have, need = int(draft.count[row]), int(draft.need[row])
        if need > have:
            draft.take(row, placement.choose(draft, row, need - have), Reason("its load asks for {}", (need,)))
        elif need < have:
            draft.give(row, draft.held(row)[need:], Reason("its load asks for {}", (need,)))
