"""Who grows: surplus is dealt out by marginal speed-up per share of the pool."""

from __future__ import annotations

import heapq

import numpy as np

from springtide.core import market, placement, resources
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.snapshot import TRAINING


def deal(draft: Draft) -> None:
    """Gives free room to elastic jobs, one useful size after the other."""
    jobs, curves = draft.jobs, draft.snapshot.curves
    rows = np.flatnonzero((jobs.kind == TRAINING) & (draft.count >= draft.need) & (draft.count < jobs.maximum))
    shares = resources.dominant(draft.snapshot.shapes.request[jobs.shape[rows]], draft.nodes.total())
    heap: list[tuple[float, int, int]] = []

    def offer(row: int, share: float) -> None:
        now, up = int(draft.count[row]), int(curves.up[jobs.curve[row], draft.count[row]])
        if now < up <= jobs.maximum[row]:
            gain = curves.speed[jobs.curve[row], up] / curves.speed[jobs.curve[row], now] - 1
            heapq.heappush(heap, (-gain / (up - now) / max(share, 1e-12), row, up))

    share_of = dict(zip(rows.tolist(), shares.tolist(), strict=True))
    for row, share in share_of.items():
        offer(row, share)
    while heap:
        _, row, up = heapq.heappop(heap)
        more = up - int(draft.count[row])
        slots = placement.choose(draft, row, more)
        if len(slots) == more and market.affords(draft, row, more):
            draft.take(row, slots, Reason("grows to {} replicas", (up,)))
            offer(row, share_of[row])
