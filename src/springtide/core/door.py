"""The door of the pool: room for one claim after the other, in free room, from surplus, by preemption."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from springtide.core import claims, placement, preemption, shrink, together
from springtide.core.claims import Claim
from springtide.core.draft import Draft
from springtide.core.holdings import Holdings
from springtide.core.quota import Quota
from springtide.core.reasons import Reason
from springtide.core.reservation import Reservation
from springtide.core.resources import IntArray
from springtide.core.shares import Queue
from springtide.core.snapshot import Slot


class Door:
    """What admission keeps in mind during one pass."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.holdings = Holdings(draft)
        self.quota = Quota(draft)
        self.reserved: Reservation | None = None
        self.blocked: list[Queue] = []  # who waits for room, of the classes that were served
        self._empty_room: dict[tuple[int, int], float] = {}  # (shape, count) -> how many an empty pool holds
        self.stopped: list[int] = []  # who was preempted or suspended in this pass

    def take(self, claim: Claim) -> int:
        """Admits the claim if room is found: all its replicas or none (a service: what fits). Returns how many."""
        draft = self.draft
        slots: list[Slot] = placement.choose(draft, claim.row, claim.count, claim.most)
        if len(slots) < claim.count:
            if claim.partial:
                count = self.reach(claim)
                if not count:
                    return 0
                claim = replace(claim, count=count)
            slots = slots if len(slots) == claim.count else self._made_room(claim)
        if slots:
            self.holdings.take(claim.row, slots, Reason("{} replicas fit", (len(slots),)))
            self.quota.count(claim.team, claim.amount)
        return len(slots)

    def take_all(self, rows: IntArray) -> bool:
        """Admits a long queue that fits as a whole, where its order decides nothing but places."""
        draft = self.draft
        if len(rows) < together.WORTH_IT or self.quota.limited:
            return False
        if not together.take_all(draft, rows, draft.need[rows] - draft.count[rows], Reason("there is room")):
            return False
        self.holdings.touch(rows.tolist())
        self.quota = Quota(draft)
        return True

    def give(self, row: int, slots: Iterable[Slot], reason: Reason) -> None:
        """Suspends a job that cannot be whole."""
        given = list(slots)
        self.quota.count(int(self.draft.jobs.team[row]), -self.draft.request(row) * len(given))
        self.holdings.give(row, given, reason)
        self.stopped.append(row)

    def takeable(self, claim: Claim, rows: IntArray | None = None) -> IntArray:
        """Entries of the holdings that the claim could take: all surplus, and what it may preempt (`rows`)."""
        if rows is None:
            rows = preemption.candidates(self.holdings, self.quota, claim, set(self.stopped))[0]
        if not len(rows) and not len(shrink.surplus(self.draft)):
            return np.zeros(0, dtype=np.int64)
        may = np.zeros(len(self.draft.count), dtype=bool)
        may[rows] = True
        return np.flatnonzero((may[self.holdings.row] | self.holdings.surplus()) & (self.holdings.row != claim.row))

    def reach(self, claim: Claim) -> int:
        """How many replicas would fit if everybody gave way who has to."""
        rows = preemption.candidates(self.holdings, self.quota, claim, set(self.stopped))[0]
        least = replace(claim, count=1) if claim.partial else claim
        if not preemption.enough(self.holdings, least, rows):
            return 0
        free, device_free = self.holdings.without(self.takeable(claim, rows))
        return int(min(claims.fits(self.draft, claim, free, device_free).sum(), claim.count))

    def could_fit(self, claim: Claim) -> bool:
        """Whether room could be made for all of the claim (of a service's: for any)."""
        free = claims.fits(self.draft, claim, self.draft.free, self.draft.device_free).sum()
        wanted = 1 if claim.partial else claim.count
        return bool(free >= wanted) or self.reach(claim) >= wanted

    def fits_empty(self, claim: Claim) -> bool:
        """Whether the living nodes would hold the claim if nothing else ran."""
        return self.empty_room(claim) >= (1 if claim.partial else claim.count)

    def empty_room(self, claim: Claim) -> float:
        """How many of the claim's replicas the living nodes would hold if nothing else ran."""
        nodes = self.draft.nodes
        key = int(self.draft.jobs.shape[claim.row]), claim.count
        if key not in self._empty_room:
            free = np.where(nodes.alive[:, None], nodes.capacity, 0.0)
            there = np.arange(self.draft.device_free.shape[1])[None, :] < nodes.device_count[:, None]
            device_free = np.where(there & nodes.alive[:, None], 1.0, -np.inf)
            anywhere = replace(claim, most=None)
            self._empty_room[key] = float(claims.fits(self.draft, anywhere, free, device_free).sum())
        return self._empty_room[key]

    def _made_room(self, claim: Claim) -> list[Slot]:
        where = shrink.make_room(self.holdings, claim)
        if not where:
            where, stopped = preemption.make_room(self.holdings, self.quota, claim, set(self.stopped))
            self.stopped += stopped
        return claims.settle(self.draft, claim, where)
