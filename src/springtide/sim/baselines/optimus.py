"""Optimus (Peng et al., EuroSys'18): each GPU to whom it shortens most what is left to do."""

from __future__ import annotations

import heapq

import numpy as np

from springtide.core import Plan, Snapshot
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import GPU
from springtide.core.snapshot import GONE, SERVICE
from springtide.sim.baselines import emptiest
from springtide.sim.baselines.fixed import follow_services
from springtide.sim.scaling import Measured
from springtide.sim.trace import Trace

SIZED = Reason("shortens most what is left to do")


class Optimus:
    """One replica for everybody, then one more at a time by marginal gain; sizes that change are placed anew.

    As in Pollux's artifact, what is left is counted in whole epochs after the present one where epochs are known.
    """

    name = "optimus"

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._tasks = {task.name: task for task in trace.tasks}
        self._arrived = {task.name: number for number, task in enumerate(trace.tasks)}
        self._epochs: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft = Draft(snapshot)
        follow_services(draft)
        jobs = snapshot.jobs
        rows = [row for row in snapshot.live().tolist() if jobs.kind[row] != SERVICE and jobs.kind[row] != GONE]
        rows.sort(key=lambda row: self._arrived[jobs.names[row]])
        sizes = self._sizes(draft, rows)
        for row in rows:
            if draft.count[row] and draft.count[row] != sizes[row]:
                draft.give(row, draft.held(row), SIZED)
        for row in sorted(rows, key=lambda row: sizes[row]):
            if sizes[row] and not draft.count[row]:
                draft.take(row, emptiest.choose(draft, row, sizes[row]), SIZED)
        return draft.plan()

    def _sizes(self, draft: Draft, rows: list[int]) -> dict[int, int]:
        left = int(draft.nodes.total()[GPU])
        sizes = {row: int(place < left) for place, row in enumerate(rows)}
        left -= sum(sizes.values())
        remaining = {row: self._remaining_s(draft, row) for row in rows}
        heap = [
            (-self._gain(draft, row, 1, remaining[row]), place, row) for place, row in enumerate(rows) if sizes[row]
        ]
        heapq.heapify(heap)
        while left > 0 and heap and heap[0][0] < 0:
            _, place, row = heap[0]
            sizes[row] += 1
            left -= 1
            heapq.heapreplace(heap, (-self._gain(draft, row, sizes[row], remaining[row]), place, row))
        return sizes

    def _gain(self, draft: Draft, row: int, size: int, remaining_s: float) -> float:
        """Seconds that one replica more would save."""
        if size >= draft.jobs.maximum[row]:
            return 0.0
        speed = draft.snapshot.curves.speed[draft.jobs.curve[row]]
        return remaining_s * float(1 / speed[size] - 1 / speed[size + 1])

    def _remaining_s(self, draft: Draft, row: int) -> float:
        """What is left to do, in seconds of one replica."""
        task = self._tasks[draft.jobs.names[row]]
        left_s, world = float(draft.jobs.remaining_s[row]), self._trace.world
        if not isinstance(world, Measured) or not task.model:
            return left_s
        ends, steps = self._table(world, task.model)
        done = (1 - left_s / task.work_s) * ends[-1]
        epoch = int(np.searchsorted(ends, done + 1e-6 * ends[-1], side="right")) - 1
        last = len(steps) - 1
        whole = float(steps[last] - steps[epoch]) if epoch < last else 1.0
        return whole * world.batch(task.model)[1] / float(ends[-1]) * task.work_s

    def _table(self, world: Measured, model: str) -> tuple[np.ndarray, np.ndarray]:
        """(samples at the end of each epoch, steps measured by then)."""
        if model not in self._epochs:
            subject, batch = world.batch(model)
            self._epochs[model] = subject.samples(batch), subject.steps(batch)
        return self._epochs[model]
