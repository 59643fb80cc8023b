"""Who gets its minimum: whole or not at all (a service: every replica that fits), within quota, in order.

Class by class, the highest first. What ran and lost replicas comes first in its class; then teams take turns. What does
not fit in free room takes surplus, then preempts. One blocked job holds a reservation.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from springtide.core import auction, claims, shares, shrink, waiting
from springtide.core.claims import Claim
from springtide.core.door import Door
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import FloatArray, IntArray
from springtide.core.shares import Line, Queue

# What reclaims may take from a class that was served before, moves may make room for it, and who starts below it may
# leave others of his team outside their guarantee: then it is served again.
ROUNDS = 4


def admit(draft: Draft) -> None:
    """Goes down the classes; what does not fit waits with its reason."""
    shrink.dismiss(draft)
    rows = shares.lacking(draft)
    if not len(rows):
        return
    door = Door(draft)
    blocked: dict[int, list[Queue]] = {}  # class -> who was refused, in that order
    for _ in range(ROUNDS):
        door.reserved = None
        seen, tidied, safe = len(door.stopped), door.tidied, door.quota.safe()
        for priority in range(int(draft.jobs.priority[rows].max()), -1, -1):
            blocked[priority] = _serve(door, priority) if priority else auction.serve(door)
        stopped = any(draft.count[row] < draft.need[row] for row in door.stopped[seen:])
        if not (stopped or door.tidied > tidied or door.lapsed(safe)):
            break
        rows = shares.lacking(draft)
        if not len(rows):
            return
    waiting.explain(door, [queue for priority in sorted(blocked, reverse=True) for queue in blocked[priority]])


def _serve(door: Door, priority: int) -> list[Queue]:
    """One class: first what ran and lost replicas, then the others in turn. Returns who is left waiting."""
    draft = door.draft
    rows = shares.lacking(draft)
    rows = rows[draft.jobs.priority[rows] == priority]
    if not len(rows) or door.take_all(rows):
        return []
    ran = shares.refills(draft, rows)
    if ran.any():
        _refill(door, Line(draft, rows[ran], door.quota))
        rows = shares.lacking(draft)
        rows = rows[draft.jobs.priority[rows] == priority]
    return _Turns(door, rows).serve()


def _refill(door: Door, line: Line) -> None:
    """What lost replicas gets them back; what cannot be whole again is suspended."""
    draft = door.draft
    while queue := line.pop():
        row = queue.pop()
        line.back(queue)
        claim = claims.claim_of(draft, row)
        if not door.take(claim):
            held = list(draft.holding(row))
            lost = Reason("suspended: {} of {} replicas were lost and do not fit", (claim.count, int(draft.need[row])))
            door.give(row, held, lost)


class _Turns:
    """One class while it is served: its line, and who was set aside because of room, a limit or the reservation."""

    def __init__(self, door: Door, rows: IntArray) -> None:
        self.door = door
        self.draft = door.draft
        self.rows = rows
        lost = door.hopeless(rows, int(door.draft.jobs.priority[rows[0]])) if len(rows) else np.zeros(0, dtype=bool)
        self.line = Line(door.draft, rows[~lost], door.quota)
        self.blocked: list[Queue] = shares.queues(door.draft, rows[lost])  # no room, whatever is taken
        self.limited: list[Queue] = []  # a team's limit
        self.barred: list[Queue] = []  # room only where it is reserved
        self.aware = False  # whether the reservation was looked for: not before somebody could start
        self.reserves = False  # whether it is this class's to hold

    def serve(self) -> list[Queue]:
        """Until nobody more can be admitted; returns who waits."""
        while True:
            seen, tidied, started = len(self.door.stopped), self.door.tidied, False
            while queue := self.line.pop():
                started |= self._head(queue)
            if self._came_free(seen) or self.door.tidied > tidied:
                self._again(self.blocked)
                self._again(self.barred)
                continue
            if not (started and self.barred):
                break
            self._reserve(self.blocked)
            self._again(self.barred)
        self.door.blocked += self.blocked
        return self.blocked + self.barred + self.limited

    def _head(self, queue: Queue) -> bool:
        """The head of one queue is admitted, or the queue is set aside. Says whether anybody got anything."""
        whole = claims.claim_of(self.draft, queue.head())
        asked = self._within_limit(whole)
        if asked is None:
            self.limited.append(queue)
            return False
        if not self.aware:
            if not self.door.could_fit(asked):
                self.blocked.append(queue)
                return False
            self._look_round(queue)
        most = self._most(asked)
        got = self.door.take(replace(asked, most=most))
        self.line.served(asked.team, asked.request * got)
        if got == whole.count:
            queue.pop()
            self.line.back(queue)
        elif got == asked.count:
            self.limited.append(queue)
        elif most is not None and self.door.could_fit(claims.claim_of(self.draft, asked.row)):
            self.barred.append(queue)
        else:
            self._block(queue)
        return got > 0

    def _block(self, queue: Queue) -> None:
        """The queue waits for room; an older one than the reservation's takes it over, and those barred try again."""
        self.blocked.append(queue)
        held = self.door.reserved
        if self.reserves and (held is None or queue.oldest() < self._age_of(held.row)):
            self._reserve(self.blocked)
            self._again(self.barred)

    def _look_round(self, first: Queue) -> None:
        """Before anybody starts: who is blocked already? The oldest of them holds the reservation."""
        self.aware = True
        draft = self.draft
        above = (claims.claim_of(draft, queue.head()) for queue in self.door.blocked)
        self.reserves = self.door.reserved is None and not any(self.door.fits_empty(claim) for claim in above)
        if self.reserves:
            self._reserve([first, *self.line.queues(), *self.blocked])

    def _within_limit(self, claim: Claim) -> Claim | None:
        """The claim, or as much of a service's as its team's limit allows; None for nothing."""
        quota = self.door.quota
        if quota.barrier(claim.team, claim.amount) < 0:
            return claim
        if not claim.partial:
            return None
        count = int(claims.copies_within(quota.room(claim.team), claim))
        return replace(claim, count=count) if count else None

    def _most(self, claim: Claim) -> FloatArray | None:
        """What the reservation leaves to this claim on each node; a claim inside a guarantee passes one that is not."""
        held, quota = self.door.reserved, self.door.quota
        if held is None or held.row == claim.row or not self.reserves:
            return None
        if quota.inside(claim.team, claim.amount):
            holder = claims.claim_of(self.draft, held.row)
            if not quota.inside(holder.team, holder.amount):
                return None
        return held.most(self.draft, claim.row, claim.request)

    def _waits_for_room(self, queue: Queue) -> bool:
        """Whether its oldest is blocked, and not by a limit; who has waited too long is, until it has its room."""
        if queue in self.blocked:
            return True
        claim = self._within_limit(claims.claim_of(self.draft, queue.head()))
        if claim is None:
            return False
        late = bool(shares.overdue(self.draft, np.array([queue.oldest()[1]]))[0])
        return late or not self.door.could_fit(claim)

    def _reserve(self, queues: list[Queue]) -> None:
        """Of those blocked in these queues the oldest that would fit an empty pool holds the reservation."""
        if not self.reserves:
            return
        self.door.reserved = None
        for queue in sorted(queues, key=Queue.oldest):
            if not self._waits_for_room(queue):
                continue
            claim = claims.claim_of(self.draft, queue.oldest()[1])
            if self.door.reserve(claim):
                return

    def _age_of(self, row: int) -> tuple[float, int]:
        return float(self.draft.jobs.submitted_s[row]), row

    def _again(self, queues: list[Queue]) -> None:
        for queue in queues:
            self.line.back(queue)
        queues.clear()

    def _came_free(self, seen: int) -> bool:
        """Where one of this class was suspended, more may be free than was needed, and it waits itself now."""
        priority = self.draft.jobs.priority
        stopped = [row for row in self.door.stopped[seen:] if priority[row] >= priority[self.rows[0]]]
        if not stopped:
            return False
        mine = [row for row in stopped if priority[row] == priority[self.rows[0]]]
        self.line.add(self.draft, np.array([row for row in mine if self.draft.count[row] < self.draft.need[row]], int))
        return True
