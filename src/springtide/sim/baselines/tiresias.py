"""Tiresias (Gu et al., NSDI'19): least attained service in two queues, jobs at the size that was asked for."""

from __future__ import annotations

from springtide.core import Plan, Snapshot
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import GPU
from springtide.core.snapshot import GONE, SERVICE
from springtide.sim.baselines import emptiest
from springtide.sim.baselines.fixed import asked_sizes, follow_services
from springtide.sim.trace import Trace

DEMOTED_S = 16 * 3600.0  # GPU-seconds after which a job leaves the first queue, as in Pollux's artifact
STARTS = Reason("first in line by attained service")
STOPS = Reason("others have attained less service")


class Tiresias:
    """Discretised: the first queue before the second, in each first come first served; nobody is promoted again."""

    name = "tiresias"

    def __init__(self, trace: Trace) -> None:
        self._asked = asked_sizes(trace)
        self._arrived = {task.name: number for number, task in enumerate(trace.tasks)}
        self._queues: tuple[list[str], list[str]] = ([], [])
        self._executed_s: dict[str, float] = {}
        self._running: set[str] = set()
        self._seen_s = 0.0

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft = Draft(snapshot)
        follow_services(draft)
        jobs = snapshot.jobs
        kinds = jobs.kind.tolist()
        rows = {jobs.names[row]: row for row in range(len(jobs.names)) if kinds[row] not in (GONE, SERVICE)}
        self._update(draft, rows)
        chosen = self._chosen(draft, rows)
        for name, row in rows.items():
            if draft.count[row] and name not in chosen:
                draft.give(row, draft.held(row), STOPS)
        for name in chosen:
            row = rows[name]
            if not draft.count[row]:
                self._start(draft, row, self._asked[name])
        self._running = {name for name, row in rows.items() if draft.count[row]}
        return draft.plan()

    def _update(self, draft: Draft, rows: dict[str, int]) -> None:
        """New jobs join the first queue; those that had enough service leave it."""
        first, second = self._queues
        first[:] = [name for name in first if name in rows]
        second[:] = [name for name in second if name in rows]
        known = {*first, *second}
        first += sorted((name for name in rows if name not in known), key=lambda name: self._arrived[name])
        passed_s, self._seen_s = draft.now_s - self._seen_s, draft.now_s
        for name in self._running & rows.keys():
            self._executed_s[name] = self._executed_s.get(name, 0.0) + passed_s
            gpus = self._asked[name] * float(draft.request(rows[name])[GPU])
            if name in first and self._executed_s[name] * gpus >= DEMOTED_S:
                first.remove(name)
                second.append(name)

    def _chosen(self, draft: Draft, rows: dict[str, int]) -> list[str]:
        """Who runs: in order, everybody for whom there are GPUs left."""
        left = float(draft.nodes.total()[GPU])
        chosen = []
        for name in (*self._queues[0], *self._queues[1]):
            gpus = self._asked[name] * float(draft.request(rows[name])[GPU])
            if gpus <= left:
                left -= gpus
                chosen.append(name)
        return chosen

    def _start(self, draft: Draft, row: int, count: int) -> None:
        slots = emptiest.choose(draft, row, count)
        if len(slots) == count:
            draft.take(row, slots, STARTS)
