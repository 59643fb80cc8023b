"""Surplus: replicas above a minimum belong to nobody, and give way to any minimum before anything is preempted."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from springtide.core import claims, filling, resources, wishes
from springtide.core.claims import Claim
from springtide.core.draft import Draft
from springtide.core.holdings import Holdings
from springtide.core.reasons import Reason, Replicas
from springtide.core.resources import BoolArray, FloatArray, IntArray
from springtide.core.snapshot import GONE, Slot

CLASS_NAMES = ("spot", "experiment", "standard", "production")


def dismiss(draft: Draft) -> None:
    """Who may not run in this pass gives back all that it holds."""
    for row in sorted(draft.refused):
        if draft.count[row] > 0:
            draft.give(row, draft.held(row), draft.waits.get(row, Reason("may not run now")))


def surplus(draft: Draft) -> IntArray:
    """Rows of jobs that hold more than they need."""
    return np.flatnonzero((draft.jobs.kind != GONE) & (draft.count > draft.need))


def tail(draft: Draft, row: int) -> list[Slot]:
    """The surplus slots of a job, the latest last: the first `need` of its slots are its minimum."""
    return list(draft.holding(row)[int(draft.need[row]) :])


def order(holdings: Holdings, claim: Claim, others: BoolArray | None = None) -> IntArray:
    """Surplus slots in the order in which they are taken: lower classes first, of these who has most per weight.

    `others` (J,): only from these rows.
    """
    draft, jobs = holdings.draft, holdings.draft.jobs
    mask = holdings.surplus() & (holdings.row != claim.row)
    if others is not None:
        mask &= others[holdings.row]
    indices = np.flatnonzero(mask)
    rows = holdings.row[indices]
    size = holdings.place[indices] + 1
    above = size * level(draft, rows)
    lower = jobs.priority[rows] < claim.priority
    rank = np.where(lower, jobs.priority[rows], claim.priority)
    return indices[np.lexsort((-size, rows, -above, rank))]


def level(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows),) the share of the pool that one replica takes, over its team's weight."""
    share = resources.dominant(draft.snapshot.shapes.request[draft.jobs.shape[rows]], draft.nodes.total())
    found: FloatArray = share / np.maximum(draft.snapshot.teams.weight[draft.jobs.team[rows]], 1e-9)
    return found


def make_room(holdings: Holdings, claim: Claim) -> dict[int, int]:
    """Takes surplus where the claim then fits, and says where: node -> replicas; {} and no change if it cannot."""
    draft = holdings.draft
    rows = surplus(draft)
    if not len(rows):
        return {}
    indices = order(holdings, claim)
    lower = indices[draft.jobs.priority[holdings.row[indices]] < claim.priority]
    for chosen in (lower, indices) if 0 < len(lower) < len(indices) else (indices,):
        room = claims.fits(draft, claim, *holdings.without(chosen))
        if room.sum() >= claim.count:
            where = {}
            if not wishes.any_of(draft, claim.row):
                where = filling.spread(draft, claim.request, holdings.without(indices)[0], room, claim.count)
            where = where or claims.spread(draft, claim, room, claims.fits(draft, claim, draft.free, draft.device_free))
            units = claims.fewest(holdings, claim, where, chosen, np.arange(len(chosen)))
            give_way(holdings, claim, chosen[units])
            return where
    return {}


def give_way(holdings: Holdings, claim: Claim, indices: IntArray) -> None:
    """Surplus at these entries of the table goes to the claim."""
    give_slots(holdings, claim, [(int(holdings.row[index]), holdings.slot(index)) for index in indices.tolist()])


def give_slots(holdings: Holdings, claim: Claim, given: Iterable[tuple[int, Slot]]) -> None:
    """As `give_way`, of (row, slot)."""
    draft = holdings.draft
    by_row: dict[int, list[Slot]] = {}
    for row, slot in given:
        by_row.setdefault(row, []).append(slot)
    for row, slots in by_row.items():
        left = int(draft.count[row]) - len(slots)
        holdings.give(row, slots, Reason("shrinks to {} for {} ({})", (Replicas(left), *title(draft, claim.row))))


def title(draft: Draft, row: int) -> tuple[str, str]:
    """A job's name and class, for sentences."""
    return draft.jobs.names[row], CLASS_NAMES[min(max(int(draft.jobs.priority[row]), 0), 3)]
