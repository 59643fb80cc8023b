"""Surplus is dealt out by marginal speed-up: free room first, then from whom a replica is worth less.

A step is taken where it pays: what it is worth to the one who grows, restarting included, is more than what it costs
the one who shrinks. So each step raises the worth of all together, and a plan that was carried out changes nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from springtide.core import market, nearness, placement, together
from springtide.core.draft import Draft
from springtide.core.holdings import return_slots
from springtide.core.nearness import Arrangement
from springtide.core.reasons import Reason, Replicas
from springtide.core.resources import BoolArray, FloatArray, IntArray
from springtide.core.snapshot import Slot
from springtide.core.worth import Worth, concerned

MARGIN = 0.05  # a replica changes hands when it is worth so much more there
TRIES = 24  # steps for which no good places are found, after which a pass looks for no others


def deal(draft: Draft) -> None:
    """Gives free room to elastic jobs, then moves surplus among them."""
    if not len(concerned(draft)):
        return
    worth = Worth(draft)
    if _everybody(draft, worth):
        worth = Worth(draft)
    if len(worth.rows):
        dealing = _Dealing(draft, worth)
        while dealing.grow() or dealing.trade():
            pass


def _everybody(draft: Draft, worth: Worth) -> bool:
    """Gives many jobs their best sizes at once where free room holds all of them, at nobody else's cost."""
    if len(worth.rows) < together.WORTH_IT:
        return False
    best = np.argmax(worth.value, axis=1)
    more = best - draft.count[worth.rows]
    gains = (more > 0) & (worth.value[np.arange(len(best)), best] > worth.now * (1 + 1e-9))
    rows = worth.rows[gains]
    bidding = (draft.jobs.priority[rows] == 0).any()  # what they may have depends on prices
    if len(rows) < together.WORTH_IT or bidding:
        return False
    return together.take_all(draft, rows, more[gains], Reason("grows to the best size that it has: there is room"))


@dataclass(frozen=True, slots=True)
class _Shrink:
    """The cheapest way of getting replicas back: who gives how many, and what that costs."""

    loss: FloatArray  # (Q + 1,) for at least q replicas
    victim: IntArray  # (Q + 1,)
    size: IntArray  # (Q + 1,) to which it shrinks


class _Dealing:
    def __init__(self, draft: Draft, worth: Worth) -> None:
        self.draft = draft
        self.worth = worth
        self.shapes = draft.jobs.shape[worth.rows]
        # What may share devices in turns is left as it is.
        self.turns: BoolArray = np.isfinite(draft.jobs.stages[worth.rows].sum(axis=1))
        self.stuck: set[tuple[int, int]] = set()  # (job, size) for which no good places were found

    def count(self, e: int) -> int:
        """Replicas as drafted."""
        return int(self.draft.count[self.worth.rows[e]])

    def grow(self) -> bool:
        """Free room, to whom a replica is worth most: first the sizes, then each job's places at once."""
        gaining = self._gaining()
        room = {shape: self._free(shape) for shape in np.unique(self.shapes[gaining]).tolist()}
        counts = self.draft.count[self.worth.rows].tolist()
        heap: list[tuple[float, int, int]] = []
        order: dict[int, None] = {}
        for e in gaining.tolist():
            self._offer(heap, e, counts[e], room[int(self.shapes[e])])
        while heap:
            _, e, size = heapq.heappop(heap)
            shape = int(self.shapes[e])
            if size - counts[e] <= room[shape]:
                room[shape] -= size - counts[e]
                counts[e] = size
                order[e] = None
            self._offer(heap, e, counts[e], room[shape])
        grown = failed = 0
        for e in order:
            placed = self._place(e, counts[e])
            grown, failed = grown + placed, failed + (not placed)
            if failed >= TRIES:
                break
        return grown > 0

    def _gaining(self) -> IntArray:
        """Jobs of which some larger size is worth more than what they have."""
        worth, counts = self.worth, self.draft.count[self.worth.rows]
        larger = np.arange(worth.value.shape[1]) > counts[:, None]
        return np.flatnonzero(np.max(worth.value, axis=1, where=larger, initial=-np.inf) > worth.now)

    def _place(self, e: int, size: int) -> bool:
        """The largest useful size up to this for which there are good places."""
        now = self.count(e)
        sizes = [m for m in range(size, now, -1) if self.worth.value[e, m] > self.worth.now[e]]
        draft = self.draft
        return any(self._resize(e, m, draft.free, draft.device_free, 0.0, []) for m in sizes)

    def _offer(self, heap: list[tuple[float, int, int]], e: int, now: int, free: float) -> None:
        """The size to which it would grow best in so much room, if any."""
        worth = self.worth
        held = worth.now[e] if now == self.count(e) else worth.value[e, now]
        most = int(min(worth.most[e], now + free))
        if most <= now:
            return
        rate = (worth.value[e, now + 1 : most + 1] - held) / np.arange(1, most - now + 1)
        best = int(np.argmax(rate))
        if rate[best] > 1e-9 * held:
            heapq.heappush(heap, (-float(rate[best] / worth.share[e]), e, now + 1 + best))

    def _free(self, shape: int) -> float:
        draft = self.draft
        room = placement.room(draft.free, draft.device_free, draft.snapshot.shapes.request[shape])
        return float(np.minimum(room, 1e9).sum(where=draft.nodes.alive))

    def trade(self) -> bool:
        """One step of surplus from one job to another of the same shape, the best there is; False if none pays."""
        for shape in np.unique(self.shapes).tolist():
            members = np.flatnonzero((self.shapes == shape) & ~self.turns)
            counts = self.draft.count[self.worth.rows[members]]
            surplus = counts > self.worth.least[members]
            if not (counts < self.worth.most[members]).any():
                continue
            if len(members) > 1 and surplus.any() and self._trade(members, members[surplus], self._free(shape)):
                return True
        return False

    def _trade(self, members: IntArray, givers: IntArray, free: float) -> bool:
        worth, counts = self.worth, self.draft.count[self.worth.rows]
        shrink = self._cheapest(givers, counts)
        size = np.arange(worth.value.shape[1])
        more = size[None, :] - counts[members, None]
        asked = np.clip(more - min(free, 1e9), 1, len(shrink.loss) - 1).astype(np.int64)
        gain = np.where(more > 0, worth.value[members] - worth.now[members, None], -np.inf)
        profit = gain - shrink.loss[asked] * (1 + MARGIN)
        profit[(more - free > len(shrink.loss) - 1) | (shrink.victim[asked] == members[:, None])] = -np.inf
        for e, stuck in self.stuck:
            at = np.flatnonzero(members == e)
            profit[at, stuck] = -np.inf
        score = np.where(profit > 1e-9 * np.abs(gain), profit / np.maximum(more, 1), -np.inf)
        while np.isfinite(best := float(score.max())) and best > 0:
            at, wanted = divmod(int(np.argmax(score)), score.shape[1])
            q = int(asked[at, wanted])
            if self._hand_over(
                int(members[at]), wanted, int(shrink.victim[q]), int(shrink.size[q]), float(shrink.loss[q])
            ):
                return True
            score[at, wanted] = -np.inf
            if len(self.stuck) >= TRIES:
                return False
            self.stuck.add((int(members[at]), wanted))
        return False

    def _cheapest(self, givers: IntArray, counts: IntArray) -> _Shrink:
        worth = self.worth
        widest = int((counts[givers] - worth.least[givers]).max())
        loss, victim, size = np.full(widest + 1, np.inf), np.full(widest + 1, -1), np.zeros(widest + 1, dtype=np.int64)
        for q in range(widest, 0, -1):
            to = counts[givers] - q
            fits = to >= worth.least[givers]
            lost = np.where(fits, worth.now[givers] - worth.value[givers, np.maximum(to, 0)], np.inf)
            k = int(np.argmin(lost))
            loss[q], victim[q], size[q] = float(lost[k]), int(givers[k]), int(to[k])
            if q < widest and loss[q + 1] < loss[q]:
                loss[q], victim[q], size[q] = loss[q + 1], victim[q + 1], size[q + 1]
        return _Shrink(np.maximum(loss, 0.0), victim, size)

    def _hand_over(self, e: int, size: int, victim: int, left: int, loss: float) -> bool:
        draft, worth = self.draft, self.worth
        row = int(worth.rows[victim])
        given = self._given(row, self.count(victim) - left, {slot.node for slot in draft.holding(int(worth.rows[e]))})
        free, device_free = draft.free.copy(), draft.device_free.copy()
        nodes, devices = (np.array(column, dtype=np.int64) for column in zip(*given, strict=True))
        return_slots(free, device_free, nodes, devices, np.tile(draft.request(row), (len(given), 1)))
        name = draft.jobs.names[int(worth.rows[e])]
        rest = {slot.node for slot in _without(draft.holding(row), given)}
        after = float(worth.value[victim, left]) * worth.kept(victim, left, len(rest))
        return self._resize(e, size, free, device_free, max(loss, worth.now[victim] - after), [(victim, given, name)])

    def _given(self, row: int, count: int, wanted: set[int]) -> list[Slot]:
        """Which surplus slots it gives: where the other is, then where it has fewest itself."""
        draft = self.draft
        held = list(draft.holding(row))
        own: dict[int, int] = {}
        for slot in held:
            own[slot.node] = own.get(slot.node, 0) + 1
        surplus = held[int(draft.need[row]) :] if self._waiting() else held
        return sorted(surplus, key=lambda slot: (own[slot.node], slot.node not in wanted, slot.node))[:count]

    def _waiting(self) -> bool:
        """Whether somebody waits: then minima stay where they are, so that admission decides the same again."""
        return bool(self.draft.waits)

    def _resize(
        self, e: int, size: int, free: FloatArray, device_free: FloatArray, loss: float,
        victims: list[tuple[int, list[Slot], str]],
    ) -> bool:  # fmt: skip
        """Carries it out, if the places that there are make it worth more than it costs."""
        draft, worth, row = self.draft, self.worth, int(self.worth.rows[e])
        count = self.count(e)
        if not market.affords(draft, row, size - count):
            return False
        if worth.apart[e] < 1 and not self.turns[e]:
            fixed = int(draft.need[row]) if self._waiting() else 0
            found = nearness.arrange(draft, row, size, int(worth.per_node[e]), free, device_free, fixed)
        elif victims:
            found = nearness.arrange(draft, row, size, size, free, device_free, count)
        else:
            slots = placement.choose(draft, row, size - count)
            found = Arrangement([], slots, 0) if len(slots) == size - count else None
        if found is None:
            return False
        value = float(worth.value[e, size]) * worth.kept(e, size, found.nodes)
        if value <= worth.now[e] + loss * (1 + MARGIN) + 1e-9 * abs(worth.now[e]):
            return False
        for victim, given, name in victims:
            other = int(worth.rows[victim])
            left = self.count(victim) - len(given)
            draft.give(other, given, Reason("shrinks to {}, worth more to {}", (Replicas(left), name)))
            worth.now[victim] = worth.of(victim, draft.held_nodes(other))
        reason = Reason("grows to {}, {:.2g} times as fast as one", (Replicas(size), float(worth.speed[e, size])))
        if found.removed:
            draft.give(row, found.removed, reason)
        draft.take(row, found.added, reason)
        worth.now[e] = worth.of(e, draft.held_nodes(row))
        self.stuck.clear()
        return True


def _without(held: Sequence[Slot], given: list[Slot]) -> list[Slot]:
    rest = list(held)
    for slot in given:
        rest.remove(slot)
    return rest
