"""Defragmentation: elastic workers stand elsewhere where a blocked minimum then fits, before anybody is preempted.

Training loses nothing by a move but its restart. So the room that is free in pieces is put together: halves of two GPUs
become a whole one, cores of two nodes come to lie on one. All surplus is taken to be gone meanwhile, as it gives way to
any minimum; of it goes what stands in the way in the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from springtide.core import claims, placement, resources, shrink, wishes
from springtide.core.claims import Claim
from springtide.core.draft import Draft, bits, book
from springtide.core.holdings import Holdings
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import TRAINING, Slot

MOST_PLACES = 8  # for a claim, that are looked at
STANDSTILL = 0.05  # of a job's time that its moves may cost it
Limit = Callable[[int, FloatArray], FloatArray | None]  # (row, request) -> (N,) replicas that it may have on each node


@dataclass(frozen=True, slots=True)
class Moves:
    """Who stands elsewhere, and which surplus goes, so that a claim fits `where`: node -> replicas."""

    where: dict[int, int]
    leaving: list[tuple[int, Slot]]
    coming: list[tuple[int, Slot]]
    shrinking: list[tuple[int, Slot]]


def movable(draft: Draft, priority: int) -> BoolArray:
    """(J,) elastic training of no better class that loses nothing by a stop and was not moved a moment ago."""
    jobs = draft.jobs
    found: BoolArray = (jobs.kind == TRAINING) & (draft.count > 0) & (jobs.maximum > jobs.minimum)
    found &= (jobs.priority <= priority) & (jobs.unsaved_s == 0) & np.isnan(jobs.stages).any(axis=1)
    fresh = (jobs.running == 0) | (jobs.resized_s <= np.nan_to_num(jobs.started_s, nan=np.inf))
    found &= fresh | (draft.now_s - jobs.resized_s >= np.nan_to_num(jobs.restart_s) / STANDSTILL)
    return found


class Pieces:
    """What would be free without any surplus, and which workers find a place in it; while nothing else changes."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self._may: dict[int, BoolArray] = {}
        self._finds: dict[int, bool] = {}
        self._bases: dict[int, IntArray] = {}
        self._rooms: dict[tuple[int, int], FloatArray] = {}

    @cached_property
    def surplus(self) -> IntArray:
        """Entries of the holdings beyond what their jobs need."""
        return np.flatnonzero(self.holdings.surplus())

    @cached_property
    def _without(self) -> tuple[FloatArray, FloatArray]:
        return self.holdings.without(self.surplus)

    @property
    def free(self) -> FloatArray:
        """(N, 5) what would be free without any surplus."""
        return self._without[0]

    @property
    def device_free(self) -> FloatArray:
        """(N, D) the same of each device."""
        return self._without[1]

    @cached_property
    def total(self) -> FloatArray:
        """(5,) the same of all living nodes together."""
        total: FloatArray = np.maximum(self.free[self.holdings.draft.nodes.alive], 0.0).sum(axis=0)
        return total

    def movable(self, priority: int) -> BoolArray:
        """(J,) who could move for this class."""
        if priority not in self._may:
            self._may[priority] = movable(self.holdings.draft, priority)
        return self._may[priority]

    def room(self, claim: Claim) -> FloatArray:
        """(N,) how many of the claim's replicas would fit without any surplus, and without who could move."""
        key = int(self.holdings.draft.jobs.shape[claim.row]), claim.priority
        if key not in self._rooms:
            gone = self.holdings.without(np.concatenate([self.surplus, self.base(claim.priority)]))
            self._rooms[key] = placement.room(*gone, claim.request)
        allowed = placement.allowed(self.holdings.draft, claim.row)
        room = np.minimum(np.where(allowed, self._rooms[key], 0.0), claim.count)
        return room if claim.most is None else np.minimum(room, claim.most)

    def base(self, priority: int) -> IntArray:
        """Entries of the holdings that are minima of who could move for this class, the smallest first."""
        if priority not in self._bases:
            self._bases[priority] = self._base(self.movable(priority))
        return self._bases[priority]

    def _base(self, may: BoolArray) -> IntArray:
        holdings = self.holdings
        found = np.flatnonzero(may[holdings.row] & ~holdings.surplus())
        rows = holdings.row[found]
        shapes, first, which = np.unique(holdings.draft.jobs.shape[rows], return_index=True, return_inverse=True)
        finds = [self._find(shape, row) for shape, row in zip(shapes.tolist(), rows[first].tolist(), strict=True)]
        some = np.array(finds, dtype=bool)[which]
        found, rows = found[some], rows[some]
        base: IntArray = found[np.lexsort((-holdings.place[found], rows, holdings.share[rows]))]
        return base

    def _find(self, shape: int, row: int) -> bool:
        if shape not in self._finds:
            draft = self.holdings.draft
            room = placement.room(self.free, self.device_free, draft.request(row))
            self._finds[shape] = bool((room[placement.allowed(draft, row)] >= 1).any())
        return self._finds[shape]


def find(pieces: Pieces, claim: Claim, limit: Limit) -> Moves | None:
    """The first way that is found to let the claim fit by moves; None where there is none. Changes nothing."""
    holdings, draft = pieces.holdings, pieces.holdings.draft
    # Looked at first: where nobody may move, nobody's places need to be known.
    if not pieces.movable(claim.priority).any():
        return None
    if (claim.amount > pieces.total * (1 + SLACK) + SLACK).any():
        return None
    base = pieces.base(claim.priority)
    if not len(base):
        return None
    room = pieces.room(claim)
    if room.sum() < claim.count:
        return None
    base = base[holdings.row[base] != claim.row]
    surplus = shrink.order(holdings, claim)
    for where in _places(draft, claim, room, claims.fits(draft, claim, pieces.free, pieces.device_free), pieces.free):
        moves = _moves(holdings, claim, where, surplus, base, limit)
        if moves is not None:
            return moves
    return None


def carry_out(holdings: Holdings, claim: Claim, moves: Moves) -> None:
    """Moves who has to, and takes the surplus that is in the way: the claim fits afterwards."""
    draft = holdings.draft
    for row in dict.fromkeys(row for row, _ in moves.leaving):
        before = [slot for each, slot in moves.leaving if each == row]
        after = [slot for each, slot in moves.coming if each == row]
        reason = _because(draft, claim, row, before, after)
        holdings.give(row, before, reason)
        holdings.take(row, after, reason)
    shrink.give_slots(holdings, claim, moves.shrinking)


def _places(
    draft: Draft, claim: Claim, room: FloatArray, now: FloatArray, free: FloatArray
) -> Iterator[dict[int, int]]:
    """node -> replicas: all that fits where it does now (N,), the rest where least is lacking for one of `room`."""
    lack = resources.dominant(np.maximum(claim.request - free, 0.0), draft.nodes.total())
    nodes = np.flatnonzero(room > now)
    nodes = nodes[np.lexsort((nodes, lack[nodes]))]
    for skipped in range(min(MOST_PLACES, len(nodes))):
        where = {node: int(now[node]) for node in np.flatnonzero(now).tolist()}
        left = claim.count - sum(where.values())
        for node in nodes[skipped:].tolist():
            more = min(int(room[node] - now[node]), left)
            where[node] = where.get(node, 0) + more
            left -= more
            if not left:
                yield where
                break


def _moves(
    holdings: Holdings, claim: Claim, where: dict[int, int], surplus: IntArray, base: IntArray, limit: Limit
) -> Moves | None:
    """Who must leave these nodes and where they go; None where one of them finds no room."""
    draft = holdings.draft
    both = np.concatenate([surplus, base])
    chosen = np.array(claims.fewest(holdings, claim, where, both, np.arange(len(both))), dtype=np.int64)
    leaving = both[chosen[chosen >= len(surplus)]]
    if not len(leaving):
        return None
    free, device_free = (one.copy() for one in holdings.without(np.concatenate([surplus, leaving])))
    settled = placement.settle(Counter(where).elements(), claim.request, device_free)
    book(free, device_free, claim.request, settled, -1)
    coming: list[tuple[int, Slot]] = []
    for index in leaving[::-1].tolist():  # the largest first
        row = int(holdings.row[index])
        slot = _elsewhere(draft, row, free, device_free, limit)
        if slot is None:
            return None
        book(free, device_free, draft.request(row), [slot], -1)
        coming.append((row, slot))
    taken = [(claim.row, slot) for slot in settled] + coming
    shrinking = _in_the_way(holdings, surplus, leaving, taken)
    return Moves(where, [(int(holdings.row[at]), holdings.slot(at)) for at in leaving.tolist()], coming, shrinking)


def _elsewhere(draft: Draft, row: int, free: FloatArray, device_free: FloatArray, limit: Limit) -> Slot | None:
    """A place for one replica: where the job wishes and is already, and then where it fits tightest."""
    request = draft.request(row)
    room = np.where(placement.allowed(draft, row), placement.room(free, device_free, request), 0.0)
    most = limit(row, request)
    nodes = np.flatnonzero((room if most is None else np.minimum(room, most)) >= 1)
    if not len(nodes):
        return None
    nodes = wishes.first(draft, row, nodes)
    own = np.isin(nodes, [slot.node for slot in draft.holding(row)])
    left = resources.dominant(np.where(request > 0, free[nodes], 0.0), draft.nodes.total())
    node = int(nodes[np.lexsort((nodes, left, ~own))[0]])
    return placement.settle([node], request, device_free)[0]


def _in_the_way(
    holdings: Holdings, surplus: IntArray, leaving: IntArray, taken: list[tuple[int, Slot]]
) -> list[tuple[int, Slot]]:
    """The surplus that must go for these slots to be taken, in the order in which it is."""
    draft = holdings.draft
    free, device_free = (one.copy() for one in holdings.without(leaving))
    for row, slot in taken:
        book(free, device_free, draft.request(row), [slot], -1)
    least = -SLACK * (1 + np.where(np.isfinite(draft.nodes.capacity), draft.nodes.capacity, 0.0))
    least[:, GPU] = -np.inf  # GPUs are looked at one by one
    found = []
    for index in surplus[np.isin(holdings.node[surplus], [slot.node for _, slot in taken])].tolist():
        row, slot = int(holdings.row[index]), holdings.slot(index)
        asked = draft.request(row) > 0
        full = (free[slot.node] < least[slot.node])[asked].any()
        if full or (device_free[slot.node, bits(slot.devices)] < -SLACK).any():
            book(free, device_free, draft.request(row), [slot], +1)
            found.append((row, slot))
    return found


def _because(draft: Draft, claim: Claim, row: int, before: list[Slot], after: list[Slot]) -> Reason:
    names = draft.nodes.names
    there = " and ".join(dict.fromkeys(names[slot.node] for slot in after))
    if {slot.node for slot in after} == {slot.node for slot in before}:
        there = f"other GPUs of {there}" if before[0].devices else there
    whole = claim.request[GPU] >= 1 and 0 < draft.request(row)[GPU] < 1
    made = "make a whole GPU free" if whole else "make room"
    return Reason("moves to {} to {} for {} ({})", (there, made, *shrink.title(draft, claim.row)))
