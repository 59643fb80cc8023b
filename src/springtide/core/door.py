"""The door of the pool: room for one claim after the other, in free room, from surplus, by preemption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property

import numpy as np

from springtide.core import claims, placement, preemption, reservation, shrink, tidy, together
from springtide.core.claims import Claim
from springtide.core.draft import Draft
from springtide.core.holdings import Holdings
from springtide.core.quota import Quota
from springtide.core.reasons import Reason, Replicas
from springtide.core.reservation import Reservation
from springtide.core.resources import BoolArray, FloatArray, IntArray
from springtide.core.shares import Queue
from springtide.core.snapshot import GONE, TRAINING, Slot

MANY_SHAPES = 8  # below, looking at one after the other is as fast
EVERY = 2**31  # replicas: as many as fit


class Door:
    """What admission keeps in mind during one pass."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.holdings = Holdings(draft)
        self.quota = Quota(draft)
        self.reserved: Reservation | None = None
        self._kept_inside = False  # whether it was made for a job inside a guarantee
        self.blocked: list[Queue] = []  # who waits for room, of the classes that were served
        self._empty_room: dict[tuple[int, int], float] = {}  # (shape, count) -> how many an empty pool holds
        self.stopped: list[int] = []  # who was preempted or suspended in this pass
        self._stops: Counter[int] = Counter()  # how often each of them was
        self._left: dict[int, int] = {}  # what each had left the last time
        self.tidied = 0  # claims for which others were moved
        self._untidy: set[tuple[int, ...]] = set()  # claims for which no moves were found
        self._pieces: tuple[int, tidy.Pieces] | None = None  # of which version of the holdings
        self._rooms: dict[tuple[int, int, int], float] = {}  # (version, shape, class; -1: free) -> replicas that fit

    def take(self, claim: Claim) -> int:
        """Admits the claim if room is found: all its replicas or none (a service: what fits). Returns how many."""
        got = self._take(claim)
        if claim.partial and got < claim.count:
            one = replace(claim, count=1)
            while got < claim.count and (where := self._tidied(one)):
                got += self._settle(one, claims.settle(self.draft, one, where))
        return got

    def _take(self, claim: Claim) -> int:
        draft = self.draft
        slots: list[Slot] = placement.choose(draft, claim.row, claim.count, claim.most)
        if len(slots) < claim.count:
            if claim.partial:
                count = self.reach(claim)
                if not count:
                    return 0
                claim = replace(claim, count=count)
            slots = slots if len(slots) == claim.count else self._made_room(claim)
        return self._settle(claim, slots)

    def _settle(self, claim: Claim, slots: list[Slot]) -> int:
        if slots:
            self.holdings.take(claim.row, slots, Reason("there is room for {}", (Replicas(len(slots)),)))
            self.quota.count(claim.team, claim.amount)
            held = self.reserved
            if held is not None and held.row != claim.row and claim.priority >= self.draft.jobs.priority[held.row]:
                self.reserved = held.beside(self.draft, claim.row, slots)
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

    def reserve(self, claim: Claim) -> bool:
        """The claim holds the reservation from now on; False, and nobody does, if it never fits."""
        self.reserved = reservation.reserve(self.holdings, claim, self.takeable(claim))
        self._kept_inside = self.quota.inside(claim.team, claim.amount)
        return self.reserved is not None

    def lapsed(self, safe: list[BoolArray]) -> bool:
        """Whether somebody who was inside a guarantee (`safe`, or when it was reserved for) is not now."""
        held = self.reserved
        if held is not None and self._kept_inside:
            claim = claims.claim_of(self.draft, held.row)
            if not self.quota.inside(claim.team, claim.amount):
                return True
        return self.quota.lapsed(safe)

    def give(self, row: int, slots: Iterable[Slot], reason: Reason) -> None:
        """Suspends a job that cannot be whole."""
        given = list(slots)
        self.quota.count(int(self.draft.jobs.team[row]), -self.draft.request(row) * len(given))
        self.holdings.give(row, given, reason)
        self._note([row])

    def spared(self) -> dict[int, int]:
        """Who was stopped in this pass and has come back, and how often he was stopped."""
        return {row: self._stops[row] for row, left in self._left.items() if self.draft.count[row] > left}

    def _note(self, stopped: list[int]) -> None:
        self.stopped += stopped
        self._stops.update(stopped)
        self._left |= {row: int(self.draft.count[row]) for row in stopped}

    def takeable(self, claim: Claim, rows: IntArray | None = None) -> IntArray:
        """Entries of the holdings that the claim could take: all surplus, and what it may preempt (`rows`)."""
        if rows is None:
            rows = preemption.candidates(self.holdings, self.quota, claim, self.spared())[0]
        if not len(rows) and not len(shrink.surplus(self.draft)):
            return np.zeros(0, dtype=np.int64)
        may = np.zeros(len(self.draft.count), dtype=bool)
        may[rows] = True
        return np.flatnonzero((may[self.holdings.row] | self.holdings.surplus()) & (self.holdings.row != claim.row))

    def reach(self, claim: Claim) -> int:
        """How many replicas would fit if everybody gave way who has to."""
        if claim.most is not None or not self._gives_way_by_class(claim):
            return self._reach(claim)
        key = (self.holdings.version, int(self.draft.jobs.shape[claim.row]), claim.priority)
        if key not in self._rooms:
            every = replace(claim, count=EVERY, partial=True)
            self._rooms[key] = float(self._reach(every))
        return int(min(self._rooms[key], claim.count))

    def _gives_way_by_class(self, claim: Claim) -> bool:
        """Whether who gives way to the claim does so to any of its class that asks for the same."""
        if self.quota.guaranteed or self.draft.count[claim.row]:
            return False
        return self.draft.jobs.kind[claim.row] != TRAINING or preemption.nobody_behind(self.holdings, claim)

    def _reach(self, claim: Claim) -> int:
        rows = preemption.candidates(self.holdings, self.quota, claim, self.spared())[0]
        least = replace(claim, count=1) if claim.partial else claim
        if not preemption.enough(self.holdings, least, rows):
            return 0
        free, device_free = self.holdings.without(self.takeable(claim, rows))
        return int(min(claims.fits(self.draft, claim, free, device_free).sum(), claim.count))

    def hopeless(self, rows: IntArray, priority: int) -> BoolArray:
        """(len(rows),) of one class: for whom no node would have room if everybody gave way who ever has to.

        One look at all shapes at once: where hundreds of kinds wait, few of them need to be looked at node by node.
        """
        draft, jobs = self.draft, self.draft.jobs
        shapes, which = np.unique(jobs.shape[rows], return_inverse=True)
        if len(shapes) < MANY_SHAPES or self.quota.guaranteed:
            return np.zeros(len(rows), dtype=bool)
        may = (draft.count > 0) & (jobs.kind != GONE)
        may &= (jobs.priority < priority) | ((jobs.kind == TRAINING) & (jobs.priority == priority))
        free, device_free = draft.free, draft.device_free
        if may.any() or len(shrink.surplus(draft)):
            free, device_free = self.holdings.without(np.flatnonzero(may[self.holdings.row] | self.holdings.surplus()))
        return claims.nowhere(draft, shapes, free, device_free)[which]

    def could_fit(self, claim: Claim) -> bool:
        """Whether room could be made for all of the claim (of a service's: for any)."""
        wanted = 1 if claim.partial else claim.count
        if self._free(claim) >= wanted or self.reach(claim) >= wanted:
            return True
        return self._moves(replace(claim, count=wanted)) is not None

    def _free(self, claim: Claim) -> float:
        """How many of the claim's replicas fit into free room."""
        draft = self.draft
        if claim.most is not None:
            return float(claims.fits(draft, claim, draft.free, draft.device_free).sum())
        key = (self.holdings.version, int(draft.jobs.shape[claim.row]), -1)
        if key not in self._rooms:
            every = replace(claim, count=EVERY)
            self._rooms[key] = float(claims.fits(draft, every, draft.free, draft.device_free).sum())
        return min(self._rooms[key], float(claim.count))

    def fits_empty(self, claim: Claim) -> bool:
        """Whether the living nodes would hold the claim if nothing else ran."""
        return self.empty_room(claim) >= (1 if claim.partial else claim.count)

    def empty_room(self, claim: Claim) -> float:
        """How many of the claim's replicas the living nodes would hold if nothing else ran."""
        key = int(self.draft.jobs.shape[claim.row]), claim.count
        if key not in self._empty_room:
            self._empty_room[key] = float(claims.fits(self.draft, replace(claim, most=None), *self._empty).sum())
        return self._empty_room[key]

    def look_at_empty(self, shapes: IntArray) -> None:
        """Looks at an empty pool for one replica of many shapes at once, so that `empty_room` need not for each."""
        none = claims.nowhere(self.draft, shapes, *self._empty)
        for shape, never in zip(shapes.tolist(), none.tolist(), strict=True):
            if not self.draft.snapshot.shapes.wishes[shape]:
                self._empty_room[shape, 1] = 0.0 if never else 1.0

    @cached_property
    def _empty(self) -> tuple[FloatArray, FloatArray]:
        """Free room and devices of the living nodes if nothing ran."""
        nodes = self.draft.nodes
        there = np.arange(self.draft.device_free.shape[1])[None, :] < nodes.device_count[:, None]
        alive = nodes.alive[:, None]
        return np.where(alive, nodes.capacity, 0.0), np.where(there & alive, 1.0, -np.inf)

    def _made_room(self, claim: Claim) -> list[Slot]:
        where = shrink.make_room(self.holdings, claim) or self._tidied(claim)
        if not where:
            where, stopped = preemption.make_room(self.holdings, self.quota, claim, self.spared())
            self._note(stopped)
        return claims.settle(self.draft, claim, where)

    def _tidied(self, claim: Claim) -> dict[int, int]:
        """Moves elastic workers so that the claim fits, and says where; {} and no change if that is not to be had."""
        moves = self._moves(claim)
        if moves is None:
            return {}
        tidy.carry_out(self.holdings, claim, moves)
        self.tidied += 1
        return moves.where

    def _moves(self, claim: Claim) -> tidy.Moves | None:
        """What is to be moved so that the claim fits. Spot jobs take what room there is."""
        draft, held = self.draft, self.reserved
        alike = -1 if claim.most is None and not draft.count[claim.row] else claim.row
        holder = -1 if held is None else held.row
        shape = int(draft.jobs.shape[claim.row])
        key = (self.holdings.version, alike, holder, shape, claim.count, claim.priority)
        if not claim.priority or key in self._untidy:
            return None

        def limit(row: int, request: FloatArray) -> FloatArray | None:
            return None if held is None or held.row in (row, claim.row) else held.most(draft, row, request)

        if self._pieces is None or self._pieces[0] != self.holdings.version:
            self._pieces = self.holdings.version, tidy.Pieces(self.holdings)
        moves = tidy.find(self._pieces[1], claim, limit)
        if moves is None:
            self._untidy.add(key)
        return moves
