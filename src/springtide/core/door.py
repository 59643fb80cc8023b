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
from springtide.core.snapshot import Slot


class Door:
    """What admission keeps in mind during one pass."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.holdings = Holdings(draft)
        self.quota = Quota(draft)
        self.reserved: Reservation | None = None
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

    def takeable(self, claim: Claim) -> IntArray:
        """Entries of the holdings that the claim could take: all surplus, and what it may preempt."""
        rows, _ = preemption.victims(self.holdings, self.quota, claim, set(self.stopped))
        if not len(rows) and not len(shrink.surplus(self.draft)):
            return np.zeros(0, dtype=np.int64)
        return preemption.units(self.holdings, claim, rows)[0]

    def reach(self, claim: Claim) -> int:
        """How many replicas would fit if everybody gave way who has to."""
        takeable = self.takeable(claim)
        free, device_free = (
            self.holdings.without(takeable) if len(takeable) else (self.draft.free, self.draft.device_free)
        )
        return int(min(claims.fits(self.draft, claim, free, device_free).sum(), claim.count))

    def could_fit(self, claim: Claim) -> bool:
        """Whether room could be made for all of the claim (of a service's: for any)."""
        free = claims.fits(self.draft, claim, self.draft.free, self.draft.device_free).sum()
        wanted = 1 if claim.partial else claim.count
        return bool(free >= wanted) or self.reach(claim) >= wanted

    def _made_room(self, claim: Claim) -> list[Slot]:
        where = shrink.make_room(self.holdings, claim)
        if not where:
            where, stopped = preemption.make_room(self.holdings, self.quota, claim, set(self.stopped))
            self.stopped += stopped
        return claims.settle(self.draft, claim, where)
