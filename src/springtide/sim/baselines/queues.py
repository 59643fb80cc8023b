"""First come, first served; alone, and with EASY backfilling."""

from __future__ import annotations

import math

import numpy as np

from springtide.core import Plan, Snapshot, placement
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import IntArray
from springtide.core.snapshot import SERVICE
from springtide.sim.baselines.fixed import asked_sizes, follow_services
from springtide.sim.trace import Trace

STARTS = Reason("its turn in the queue")


class Fifo:
    """Starts jobs at the size that was asked for, in the order of submission; the first that does not fit blocks."""

    name = "fifo"

    def __init__(self, trace: Trace) -> None:
        self._asked = asked_sizes(trace)

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft = Draft(snapshot)
        follow_services(draft)
        queue = waiting(draft)
        for place, row in enumerate(queue.tolist()):
            if not self.start(draft, row):
                self.blocked(draft, queue[place:])
                break
        return draft.plan()

    def blocked(self, draft: Draft, queue: IntArray) -> None:
        """What happens behind the first that does not fit: nothing."""

    def start(self, draft: Draft, row: int) -> bool:
        """Starts the job whole, if it fits."""
        count = self.size(draft, row)
        slots = placement.choose(draft, row, count)
        if len(slots) < count:
            return False
        draft.take(row, slots, STARTS)
        return True

    def size(self, draft: Draft, row: int) -> int:
        """Replicas that its owner asked for."""
        return self._asked.get(draft.jobs.names[row], int(draft.jobs.minimum[row]))


class Backfill(Fifo):
    """EASY backfilling (Lifka, JSSPP'95): others go ahead if that does not delay the first in line.

    It knows how long jobs run. The first in line is promised the moment at which enough will have ended; another may
    start if it is over by then, or takes only what is spare at that moment.
    """

    name = "fifo-backfill"

    def blocked(self, draft: Draft, queue: IntArray) -> None:
        """Backfills behind `queue[0]`."""
        promised_s, spare = self._promise(draft, int(queue[0]))
        hopeless: set[tuple[int, int]] = set()
        speeds = draft.snapshot.curves.speed
        for row in queue[1:].tolist():
            count = self.size(draft, row)
            key = (int(draft.jobs.shape[row]), count)
            if key in hopeless:
                continue
            speed = float(speeds[draft.jobs.curve[row], min(count, speeds.shape[1] - 1)])
            ends_s = draft.now_s + float(draft.jobs.remaining_s[row]) / max(speed, 1e-9)
            if ends_s > promised_s and count > spare:
                continue
            if not self.start(draft, row):
                hopeless.add(key)
            elif ends_s > promised_s:
                spare -= count

    def _promise(self, draft: Draft, row: int) -> tuple[float, float]:
        """When the first in line will fit, and how many more replicas of its request will fit beside it then."""
        jobs, request = draft.jobs, draft.request(row)
        count = self.size(draft, row)
        rows = np.flatnonzero((draft.count > 0) & (jobs.kind != SERVICE))
        width = draft.snapshot.curves.speed.shape[1] - 1
        speed = draft.snapshot.curves.speed[jobs.curve[rows], np.minimum(draft.count[rows], width)]
        ends = draft.now_s + np.nan_to_num(jobs.remaining_s[rows] / np.maximum(speed, 1e-9), nan=math.inf)
        trial = Draft(draft.snapshot)
        trial.free, trial.device_free, trial.count = draft.free.copy(), draft.device_free.copy(), draft.count.copy()
        fits = float(placement.room(trial.free, trial.device_free, request).sum())
        for at in np.argsort(ends, kind="stable").tolist():
            ended = int(rows[at])
            if not math.isfinite(ends[at]):
                break
            before = draft.held(ended)
            trial._held[ended] = list(before)
            trial.give(ended, before, STARTS)
            touched = sorted({slot.node for slot in before})
            fits = float(placement.room(trial.free, trial.device_free, request).sum()) if touched else fits
            if fits >= count:
                return float(ends[at]), fits - count
        return math.inf, math.inf


def waiting(draft: Draft) -> IntArray:
    """Rows with nothing, first come first."""
    from springtide.core.snapshot import GONE

    jobs = draft.jobs
    rows = np.flatnonzero((jobs.kind != GONE) & (jobs.kind != SERVICE) & (draft.count == 0))
    found: IntArray = rows[np.lexsort((rows, jobs.submitted_s[rows]))]
    return found
