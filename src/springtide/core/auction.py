"""Who of the spot jobs gets room: highest bid first; where a tick begins, bids that are beaten give way.

Runs in admission's place for the lowest class, when all better classes have what they need. The rules of prices and
budgets are in `market`.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from springtide.core import claims, market, preemption, shares
from springtide.core.claims import Claim
from springtide.core.door import Door
from springtide.core.reasons import Reason, Replicas, money
from springtide.core.resources import CPU, GPU, IntArray
from springtide.core.shares import Queue
from springtide.core.snapshot import Slot


def serve(door: Door) -> list[Queue]:
    """Gives spot jobs their minima, sets the prices where a tick begins, and returns who waits for other reasons."""
    draft = door.draft
    rows = shares.lacking(draft)
    rows = rows[draft.jobs.priority[rows] == market.SPOT]
    budgets = bool(np.isfinite(draft.snapshot.teams.budget).any())
    if not len(rows) or (not budgets and door.take_all(rows)):
        return []
    auction = _Auction(door)
    auction.serve(rows, market.begins(draft))
    if market.begins(draft):
        while auction.settle():
            auction.serve(auction.losers(), True)
        auction.unbar()
        auction.serve(auction.losers(), False)
    return auction.waiting()


class _Auction:
    """One round of bids. What failed once fails again for a lower bid of the same kind, until something comes free."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.draft = door.draft
        self.lost: dict[int, Reason | None] = {}  # row -> why; None: for what others wait for too
        self._barred: set[int] = set()  # who won and could not pay the price that came of it
        self._hopeless: dict[tuple[int, int, int], bool] = {}  # (team, shape, count) -> it would fit, were it alone

    def serve(self, rows: IntArray, replaces: bool) -> None:
        """Down the bids. `replaces`: lower bids give way; they bid again further down."""
        draft = self.draft
        heap = self._places(rows)
        while heap:
            row = heapq.heappop(heap)[2]
            claim = claims.claim_of(draft, row)
            beaten = self._admit(claim, replaces)
            if draft.count[row] >= draft.need[row]:
                self.lost.pop(row, None)
            else:
                self._refuse(claim)
            for place in self._places(np.array(beaten, dtype=np.int64)):
                heapq.heappush(heap, place)

    def losers(self) -> IntArray:
        """Who was refused, and whose bid meets the price as it is now."""
        rows = np.array(sorted(self.lost.keys() - self._barred), dtype=np.int64)
        rows = rows[self.draft.count[rows] < self.draft.need[rows]] if len(rows) else rows
        return rows[market.meets(self.draft, rows)] if len(rows) else rows

    def settle(self) -> bool:
        """Sets the prices of the tick; says whether somebody cannot pay them, so that others bid for his room."""
        draft = self.draft
        draft.core_price, draft.gpu_price = market.lowest(draft, draft.contested)
        stopped = market.stop_unpaid(draft, self._give)
        self.lost.update(dict.fromkeys(stopped))
        self._barred.update(stopped)
        self._hopeless.clear()
        if stopped:
            draft.core_price, draft.gpu_price = market.lowest(draft, ())
        return bool(stopped)

    def unbar(self) -> None:
        """At the prices that came of the others' bids, who could not pay may try again."""
        self._barred.clear()

    def waiting(self) -> list[Queue]:
        """Writes the reasons of those who lost; returns those who wait like any other job."""
        draft, others = self.draft, []
        for row, reason in self.lost.items():
            only = np.array([row])
            if draft.count[row] >= draft.need[row]:
                continue
            if not market.meets(draft, only)[0]:
                reason = market.outbid(draft, row)
            elif not market.affords(draft, row, int(draft.need[row])):
                reason = market.unpaid(draft, row)
            if reason is None:
                others.append(row)
            else:
                draft.wait(row, reason)
        return shares.queues(draft, np.array(others, dtype=np.int64))

    def _admit(self, claim: Claim, replaces: bool) -> list[int]:
        """Gives the claim room, if it wins some, and returns who was beaten for it. A service takes what it can get."""
        door, draft, row = self.door, self.draft, claim.row
        key = self._kind(claim)
        if key in self._hopeless or not market.affords(draft, row, claim.count):
            return []
        within = self._within_limit(claim)
        if within is None:
            return []
        got = door.take(within)
        if got == within.count:
            return []
        rest = replace(within, count=within.count - got)
        beaten = self._replace(rest) if replaces else []
        if beaten:
            self._hopeless.clear()
        else:
            self._hopeless[key] = self._fits_alone(rest)
        return beaten

    def _within_limit(self, claim: Claim) -> Claim | None:
        """The claim, or as much of a service's as its team's limit allows; None for nothing."""
        quota = self.door.quota
        if quota.barrier(claim.team, claim.amount) < 0:
            return claim
        count = int(claims.copies_within(quota.room(claim.team), claim)) if claim.partial else 0
        return replace(claim, count=count) if count else None

    def _kind(self, claim: Claim) -> tuple[int, int, int]:
        return claim.team, int(self.draft.jobs.shape[claim.row]), claim.count

    def _replace(self, claim: Claim) -> list[int]:
        """Lower bids give way to this one, as few as it takes."""
        door, draft = self.door, self.draft
        running = market.spot(draft)
        running = running[(draft.count[running] > 0) & (running != claim.row)]
        order = market.in_order(draft, np.append(running, claim.row))
        below = order[int(np.flatnonzero(order == claim.row)[0]) + 1 :][::-1]
        below = self._unprotected(claim, below)
        if not len(below):
            return []
        why = np.full(len(below), preemption.OUTBID)
        where, beaten = preemption.room_from(door.holdings, door.quota, claim, below, why)
        if slots := claims.settle(draft, claim, where):
            door.holdings.take(claim.row, slots, Reason("its bid wins room for {}", (Replicas(len(slots)),)))
            door.quota.count(claim.team, claim.amount)
        return beaten

    def _unprotected(self, claim: Claim, rows: IntArray) -> IntArray:
        """Of these rows those that a higher bid may replace: no bid buys what a team is guaranteed."""
        quota = self.door.quota
        return rows[~quota.protected(claim.team, claim.amount)[rows]] if quota.guaranteed else rows

    def _fits_alone(self, claim: Claim) -> bool:
        """Whether it would fit if no other spot job were there that it may replace."""
        door, running = self.door, market.spot(self.draft)
        running = running[(self.draft.count[running] > 0) & (running != claim.row)]
        running = self._unprotected(claim, running)
        indices, _ = preemption.units(door.holdings, claim, running)
        return bool(claims.fits(self.draft, claim, *door.holdings.without(indices)).sum() >= claim.count)

    def _refuse(self, claim: Claim) -> None:
        """A bid that would fit, were it alone, makes the resources that it asks for contested."""
        draft, row = self.draft, claim.row
        held = list(draft.holding(row))
        if held and not claim.partial:
            lost = Reason("suspended: {} of {} replicas were lost and do not fit", (claim.count, int(draft.need[row])))
            self.door.give(row, held, lost)
        if self._hopeless.get(self._kind(claim)):
            draft.contested |= {kind for kind in (CPU, GPU) if claim.request[kind] > 0}
            bid = market.bids(draft, np.array([row]))[0]
            said = money(bid[1]) + " per gpu-hour" if claim.request[GPU] > 0 else money(bid[0]) + " per core-hour"
            text = "waits for room: its bid of {} is high enough, but no node has room for {} more beside higher bids"
            self.lost[row] = Reason(text, (said, claim.count))
        else:
            self.lost[row] = None

    def _give(self, row: int, slots: Iterable[Slot], reason: Reason) -> None:
        draft, given = self.draft, list(slots)
        base = max(min(len(given), int(draft.need[row]) - (int(draft.count[row]) - len(given))), 0)
        self.door.quota.count(int(draft.jobs.team[row]), -draft.request(row) * base)
        self.door.holdings.give(row, given, reason)

    def _places(self, rows: IntArray) -> list[tuple[float, float, int]]:
        """Heap entries: the highest bid first, then time."""
        heights = market.height(self.draft, rows).tolist() if len(rows) else []
        times = self.draft.jobs.submitted_s[rows].tolist()
        places = [(-high, time, row) for high, time, row in zip(heights, times, rows.tolist(), strict=True)]
        heapq.heapify(places)
        return places
