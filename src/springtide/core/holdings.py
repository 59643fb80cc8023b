"""Who holds what where, as one table of slots: what it would be like if some of them were given back.

Of a job's slots the first `need` are its minimum, later ones surplus, in the order in which it got them. So what the
minima leave of the pool does not depend on how surplus was dealt, and admission decides the same before and after it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import chain

import numpy as np

from springtide.core import resources, shares
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import Slot


class Holdings:
    """The table; all that admission takes and gives goes through it. Columns have one entry per slot that is held."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.version = 0  # grows with each change
        self._changed: set[int] = set()
        self._table: tuple[IntArray, ...] | None = None
        self._longest: tuple[int, FloatArray] | None = None

    def take(self, row: int, slots: Iterable[Slot], reason: Reason) -> None:
        """As `Draft.take`."""
        self.draft.take(row, slots, reason)
        self.touch([row])

    def give(self, row: int, slots: Iterable[Slot], reason: Reason) -> None:
        """As `Draft.give`."""
        self.draft.give(row, slots, reason)
        self.touch([row])

    def touch(self, rows: Iterable[int]) -> None:
        """These jobs' slots are others now."""
        self._changed.update(rows)
        self.version += 1

    @cached_property
    def service(self) -> FloatArray:
        """(J,) remaining service of every job; it does not change in a pass."""
        return shares.remaining_service(self.draft, np.arange(len(self.draft.count)))

    @cached_property
    def slack_s(self) -> FloatArray:
        """(J,) seconds until a job must start to meet its deadline."""
        return shares.slack_s(self.draft, np.arange(len(self.draft.count)))

    @cached_property
    def share(self) -> FloatArray:
        """(J,) the share of the pool that one replica takes."""
        each = resources.dominant(self.draft.snapshot.shapes.request, self.draft.nodes.total())
        share: FloatArray = each[self.draft.jobs.shape]
        return share

    @property
    def longest(self) -> FloatArray:
        """(T, 4) the most remaining service of what runs, by team and class; -inf where nothing does."""
        if self._longest is None or self._longest[0] != self.version:
            draft, jobs = self.draft, self.draft.jobs
            rows = np.flatnonzero(draft.count > 0)
            most = np.full((len(draft.snapshot.teams.names), 4), -np.inf)
            np.maximum.at(most, (jobs.team[rows], jobs.priority[rows]), self.service[rows])
            self._longest = self.version, most
        return self._longest[1]

    @property
    def row(self) -> IntArray:
        """(S,) whose slot."""
        return self._columns()[0]

    @property
    def node(self) -> IntArray:
        """(S,) where."""
        return self._columns()[1]

    @property
    def devices(self) -> IntArray:
        """(S,) which GPUs there, as bits."""
        return self._columns()[2]

    @property
    def place(self) -> IntArray:
        """(S,) the how-manieth of its job's slots."""
        return self._columns()[3]

    def surplus(self) -> BoolArray:
        """(S,) beyond what its job needs."""
        beyond: BoolArray = self.place >= self.draft.need[self.row]
        return beyond

    def slot(self, index: int) -> Slot:
        """One entry of the table."""
        return Slot(int(self.node[index]), int(self.devices[index]))

    def request(self, indices: IntArray) -> FloatArray:
        """(len(indices), 5) what these slots hold."""
        request: FloatArray = self.draft.snapshot.shapes.request[self.draft.jobs.shape[self.row[indices]]]
        return request

    def without(self, indices: IntArray) -> tuple[FloatArray, FloatArray]:
        """`free` (N, 5) and `device_free` (N, D) if these slots were given back."""
        draft = self.draft
        if not len(indices):
            return draft.free, draft.device_free
        free, device_free = draft.free.copy(), draft.device_free.copy()
        return_slots(free, device_free, self.node[indices], self.devices[indices], self.request(indices))
        return free, device_free

    def _columns(self) -> tuple[IntArray, ...]:
        if self._table is None:
            self._table = self._built(np.flatnonzero(self.draft.count > 0).tolist())
        elif self._changed:
            kept = ~np.isin(self._table[0], list(self._changed))
            added = self._built(sorted(self._changed))
            self._table = tuple(np.concatenate([old[kept], new]) for old, new in zip(self._table, added, strict=True))
        self._changed.clear()
        return self._table

    def _built(self, rows: list[int]) -> tuple[IntArray, ...]:
        held = self.draft.holdings(rows)
        counts = np.fromiter(map(len, held), dtype=np.int64, count=len(held))
        numbers = chain.from_iterable(chain.from_iterable(held))
        flat = np.fromiter(numbers, dtype=np.int64, count=2 * int(counts.sum())).reshape(-1, 2)
        begins = np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(np.array(rows, dtype=np.int64), counts), flat[:, 0], flat[:, 1], np.arange(len(flat)) - begins


def return_slots(
    free: FloatArray, device_free: FloatArray, node: IntArray, devices: IntArray, request: FloatArray
) -> None:
    """Gives back (S,) slots in `free` and `device_free`, in place."""
    for kind in np.flatnonzero(request.any(axis=0)).tolist():
        if kind != GPU:
            free[:, kind] += np.bincount(node, request[:, kind], len(free))
    on_gpu = np.flatnonzero(devices)
    if not len(on_gpu):
        return
    node, devices, part = node[on_gpu], devices[on_gpu], np.minimum(request[on_gpu, GPU], 1.0)
    touched = np.unique(node)
    for device in range(device_free.shape[1]):
        used = (devices >> device & 1).astype(bool)
        if used.any():
            device_free[:, device] += np.bincount(node[used], part[used], len(free))
    left = device_free[touched] = _rounded(device_free[touched])
    free[touched, GPU] = np.maximum(left, 0.0).sum(axis=1)


def _rounded(left: FloatArray) -> FloatArray:
    """Whole where it is whole but for rounding; -inf (no such device) stays."""
    there = np.isfinite(left)
    known = np.where(there, left, 0.0)
    whole = np.round(known)
    rounded: FloatArray = np.where(there, np.where(np.abs(known - whole) < SLACK, whole, known), -np.inf)
    return rounded
