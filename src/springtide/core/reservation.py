"""One reservation: nothing of its class starts where it would delay the oldest blocked minimum of the highest class.

It stands where the job could start soonest, by the known ends of what runs. What ends before that, or fits beside it,
may still start there (backfill: Lifka, JSSPP'95); surplus may always, as it gives way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from springtide.core import claims, placement
from springtide.core.claims import Claim
from springtide.core.draft import Draft, bits
from springtide.core.holdings import Holdings, return_slots
from springtide.core.resources import GPU, SLACK, FloatArray, IntArray
from springtide.core.snapshot import Slot


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    """Nodes kept for one job from `start_s` on; inf where nobody knows when what runs there ends."""

    row: int
    start_s: float
    where: dict[int, int]  # node -> replicas
    free: FloatArray  # (len(where), 5) what is left there at `start_s` beside the job
    device_free: FloatArray  # (len(where), D)

    def most(self, draft: Draft, row: int, request: FloatArray) -> FloatArray | None:
        """(N,) how many replicas another job may have on each node without delay to this one; None: no limit."""
        if end_s(draft, np.array([row]))[0] <= self.start_s < np.inf:
            return None
        most = np.full(len(draft.nodes.names), np.inf)
        room = placement.room(self.free, self.device_free, request) if np.isfinite(self.start_s) else 0.0
        most[list(self.where)] = room
        return most

    def beside(self, draft: Draft, row: int, slots: Iterable[Slot]) -> Reservation:
        """The reservation after another job took these slots: less is left beside this one, if it stays that long."""
        taken = Counter(slot.node for slot in slots if slot.node in self.where)
        if not taken or end_s(draft, np.array([row]))[0] <= self.start_s < np.inf:
            return self
        left = _beside(draft.request(row), taken, list(self.where), self.free, self.device_free)
        return replace(self, free=left[0], device_free=left[1])


def end_s(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows),) when a job would end that holds its minimum from now on; inf where its work is not known.

    Its surplus is not counted on: it may be taken any time.
    """
    jobs, curves = draft.jobs, draft.snapshot.curves
    size = np.clip(draft.need[rows], 0, curves.speed.shape[1] - 1)
    speed = np.maximum(curves.speed[jobs.curve[rows], size], 1e-9)
    left = jobs.remaining_s[rows]
    ends: FloatArray = np.where(np.isnan(left), np.inf, draft.now_s + left / speed)
    return ends


def reserve(holdings: Holdings, claim: Claim, takeable: IntArray) -> Reservation | None:
    """The reservation of a blocked claim; `takeable` are the slots that it could take now. None if it never fits."""
    draft = holdings.draft
    free, device_free = holdings.without(takeable)
    others = np.ones(len(holdings.row), dtype=bool)
    others[takeable] = False
    waited = np.flatnonzero(others & (holdings.row != claim.row))
    ends = end_s(draft, holdings.row[waited])
    order = np.argsort(ends, kind="stable")
    waited, ends = waited[order], ends[order]
    moments = [*np.unique(ends[np.isfinite(ends)]).tolist(), float("inf")]
    upto = [0, *np.searchsorted(ends, moments, side="right").tolist()]  # how many have ended by each moment
    low, high, before = -1, len(moments), (free, device_free)
    while high - low > 1:  # the claim does not fit at `low`, where `before` is free, and does at `high`
        middle = (low + high) // 2
        later = before[0].copy(), before[1].copy()
        ended = waited[upto[low + 1] : upto[middle + 1]]
        return_slots(*later, holdings.node[ended], holdings.devices[ended], holdings.request(ended))
        room = claims.fits(draft, claim, *later)
        if room.sum() >= claim.count:
            high, then, where_room = middle, later, room
        else:
            low, before = middle, later
    if high == len(moments):
        return None
    where = claims.spread(draft, claim, where_room, claims.fits(draft, claim, free, device_free))
    nodes = list(where)
    left = _beside(claim.request, where, nodes, then[0][nodes], then[1][nodes])
    return Reservation(claim.row, moments[high], where, *left)


def _beside(
    request: FloatArray, taken: Mapping[int, int], nodes: list[int], free: FloatArray, device_free: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """What is left on these nodes, with so much free, beside so many replicas on each."""
    left, devices_left = free.copy(), device_free.copy()
    gpu = float(request[GPU])
    for place, node in enumerate(nodes):
        many = taken.get(node, 0)
        left[place] -= many * request
        for _ in range(many if gpu > 0 else 0):
            if devices_left[place].max(initial=0.0) < min(gpu, 1.0) - SLACK:
                break  # whoever passes a reservation may leave nothing
            devices_left[place, bits(placement.devices(devices_left[place], gpu))] -= min(gpu, 1.0)
    return left, devices_left
