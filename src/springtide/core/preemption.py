"""Who is preempted, when surplus is not enough: spot by lowest bid, then what loses least; never an equal or a better.

Two exceptions: a team inside its guarantee takes back what others have borrowed, and a job that is ahead in the order
by least remaining service may suspend training of its own team and class that loses nothing by it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from springtide.core import claims, complements, shares, shrink
from springtide.core.claims import Claim
from springtide.core.holdings import Holdings
from springtide.core.quota import Quota
from springtide.core.reasons import Reason
from springtide.core.resources import SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import GONE, SERVICE, TRAINING

LOWER, BORROWED, BEHIND, OUTBID = range(4)  # why a job may be preempted, in the order in which they are
OFTEN = 3  # in one pass a job gives back what is borrowed: guarantees of several teams may come one after the other
AHEAD = 2.0  # of unknown work: who had less than half of the service is ahead; by less, two would take turns


def victims(holdings: Holdings, quota: Quota, claim: Claim, spared: Mapping[int, int]) -> tuple[IntArray, IntArray]:
    """As `candidates`, in the order in which they are preempted."""
    jobs = holdings.draft.jobs
    rows, why = candidates(holdings, quota, claim, spared)
    if len(rows) > 1:
        order = np.lexsort((-rows, -jobs.submitted_s[rows], *_damage(holdings, rows, why)[::-1], why))
        rows, why = rows[order], why[order]
    return rows, why


def candidates(holdings: Holdings, quota: Quota, claim: Claim, spared: Mapping[int, int]) -> tuple[IntArray, IntArray]:
    """Rows that may be preempted for the claim, and why each may be. `spared`: row -> how often in this pass."""
    draft, jobs = holdings.draft, holdings.draft.jobs
    running = (jobs.kind != GONE) & (draft.count > 0)
    running[claim.row] = False
    lower = running & (jobs.priority < claim.priority)
    borrowed = np.zeros(len(running), dtype=bool)
    if quota.guaranteed:
        lower &= ~quota.protected(claim.team, claim.amount)
        borrowed = running & quota.reclaimable(claim.team, claim.amount) & ~lower
    behind = _behind(holdings, claim, running & ~lower & ~borrowed)
    borrowed[[row for row, times in spared.items() if times >= OFTEN]] = False
    behind[list(spared)] = False
    rows = np.flatnonzero(lower | borrowed | behind)
    why = np.where(lower[rows], LOWER, np.where(borrowed[rows], BORROWED, BEHIND))
    return rows, why


def _damage(holdings: Holdings, rows: IntArray, why: IntArray) -> list[FloatArray]:
    """Keys by which victims of one cause are sorted, the first key first."""
    jobs = holdings.draft.jobs
    spot = (jobs.priority[rows] == 0) & (why == LOWER)
    bid = np.where(spot, jobs.bid_core[rows] + jobs.bid_gpu[rows], np.inf)
    lost = loss(holdings, rows)
    rank = np.where(why == BORROWED, jobs.priority[rows], 0)
    far = np.where(why == BEHIND, -holdings.service[rows], 0.0)
    serving = jobs.kind[rows] == SERVICE
    return [rank.astype(np.float64), bid, far, lost, serving.astype(np.float64), jobs.priority[rows].astype(np.float64)]


def loss(holdings: Holdings, rows: IntArray) -> FloatArray:
    """(len(rows),) work that would be lost: replica-seconds since the last checkpoint times a replica's share."""
    jobs = holdings.draft.jobs
    lost: FloatArray = jobs.unsaved_s[rows] * holdings.share[rows]
    return lost


def _behind(holdings: Holdings, claim: Claim, running: BoolArray) -> BoolArray:
    """(J,) training of the same team and class that loses nothing, ran long enough, and has more left to do."""
    draft, jobs = holdings.draft, holdings.draft.jobs
    found: BoolArray = running & (jobs.kind == TRAINING) & (jobs.team == claim.team) & (jobs.priority == claim.priority)
    found &= (jobs.unsaved_s == 0) & (draft.now_s - jobs.suspended_s >= draft.settings.suspend_every_s)
    if np.isfinite(jobs.stages[claim.row, 0]) and complements.takes_turns(draft)[claim.row]:
        found &= ~complements.takes_turns(draft)  # who of those runs, and beside whom, is decided together
    if jobs.kind[claim.row] != TRAINING or claim.priority == 0:  # spot jobs are ordered by their bids
        found[:] = False
    rows = np.flatnonzero(found)
    if not len(rows):
        return found
    mine, theirs = float(holdings.service[claim.row]), holdings.service[rows]
    unknown = np.isnan(jobs.remaining_s[rows])
    ahead = (mine < theirs) & (mine * np.where(unknown, AHEAD, 1.0) <= theirs)
    ahead &= unknown == np.isnan(jobs.remaining_s[claim.row])
    ahead &= holdings.slack_s[rows] >= holdings.slack_s[claim.row]
    ahead &= ~shares.overdue(draft, rows)
    found[rows] = ahead
    return found


def nobody_behind(holdings: Holdings, claim: Claim) -> bool:
    """Whether nothing that runs of its team and class has more left to do than the claim's job."""
    return bool(holdings.service[claim.row] >= holdings.longest[claim.team, claim.priority])


def units(holdings: Holdings, claim: Claim, rows: IntArray) -> tuple[IntArray, IntArray]:
    """Slots that may be taken, and which go together: all surplus one by one, then the victims.

    A service gives single replicas; others stop whole.
    """
    draft = holdings.draft
    surplus = shrink.order(holdings, claim)
    rank = np.full(len(draft.count), -1)
    rank[rows] = np.arange(len(rows))
    base = np.flatnonzero((rank[holdings.row] >= 0) & ~holdings.surplus())
    single = draft.jobs.kind[holdings.row[base]] == SERVICE
    base = base[np.lexsort((-holdings.place[base], rank[holdings.row[base]]))]
    single = draft.jobs.kind[holdings.row[base]] == SERVICE
    new = np.ones(len(base), dtype=bool)
    new[1:] = single[1:] | (holdings.row[base[1:]] != holdings.row[base[:-1]])
    return np.concatenate([surplus, base]), np.concatenate([np.arange(len(surplus)), len(surplus) + np.cumsum(new) - 1])


def make_room(
    holdings: Holdings, quota: Quota, claim: Claim, spared: Mapping[int, int]
) -> tuple[dict[int, int], list[int]]:
    """Preempts as little as lets the claim fit: (node -> replicas, who was preempted); ({}, []) if it cannot be."""
    rows, why = victims(holdings, quota, claim, spared)
    if not len(rows) or not enough(holdings, claim, rows):
        return {}, []
    return room_from(holdings, quota, claim, rows, why)


def enough(holdings: Holdings, claim: Claim, rows: IntArray) -> bool:
    """Whether free room, all surplus and all of these rows together are as much as the claim asks for.

    It may still not fit, node by node; but most of what does not fit is told so without looking at nodes.
    """
    draft = holdings.draft
    given = np.maximum(draft.count - draft.need, 0)
    given[rows] = draft.count[rows]
    some = np.flatnonzero(given)
    free = np.maximum(draft.free[draft.nodes.alive], 0.0).sum(axis=0)
    free += given[some] @ draft.snapshot.shapes.request[draft.jobs.shape[some]]
    return bool((claim.amount <= free * (1 + SLACK) + SLACK).all())


def room_from(
    holdings: Holdings, quota: Quota, claim: Claim, rows: IntArray, why: IntArray
) -> tuple[dict[int, int], list[int]]:
    """As `make_room`, from these rows in this order."""
    draft = holdings.draft
    indices, unit = units(holdings, claim, rows)
    room = claims.fits(draft, claim, *holdings.without(indices))
    if room.sum() < claim.count:
        return {}, []
    low, high = -1, int(unit[-1])  # the claim fits when all units up to `high` give way, and does not at `low`
    while high - low > 1:
        middle = (low + high) // 2
        some = claims.fits(draft, claim, *holdings.without(indices[unit <= middle]))
        low, high, room = (low, middle, some) if some.sum() >= claim.count else (middle, high, room)
    where = claims.spread(draft, claim, room, claims.fits(draft, claim, draft.free, draft.device_free))
    used = unit <= high
    chosen = claims.fewest(holdings, claim, where, indices[used], unit[used])
    return where, _stop(
        holdings, quota, claim, indices, unit, chosen, dict(zip(rows.tolist(), why.tolist(), strict=True))
    )


def _stop(
    holdings: Holdings,
    quota: Quota,
    claim: Claim,
    indices: IntArray,
    unit: IntArray,
    chosen: list[int],
    why: dict[int, int],
) -> list[int]:
    """Carries out what was chosen: surplus shrinks, services lose replicas, others are suspended."""
    draft = holdings.draft
    entries = indices[np.isin(unit, chosen)]
    surplus = holdings.surplus()[entries]
    base = entries[~surplus]
    slots: dict[int, list[int]] = {}
    for index in base.tolist():
        slots.setdefault(int(holdings.row[index]), []).append(index)
    stopped = {row: [holdings.slot(index) for index in several] for row, several in slots.items()}
    extra = entries[surplus]
    shrink.give_way(holdings, claim, extra[~np.isin(holdings.row[extra], list(stopped))])
    for row, some in stopped.items():
        service = draft.jobs.kind[row] == SERVICE
        given = some if service and draft.count[row] <= draft.need[row] else list(draft.holding(row))
        quota.count(int(draft.jobs.team[row]), -draft.request(row) * min(len(given), int(draft.need[row])))
        holdings.give(row, given, _because(holdings, claim, row, why[row]))
    return list(stopped)


def _because(holdings: Holdings, claim: Claim, row: int, why: int) -> Reason:
    draft = holdings.draft
    name, title = shrink.title(draft, claim.row)
    if why == BORROWED:
        owner, borrower = (draft.snapshot.teams.names[int(draft.jobs.team[r])] for r in (claim.row, row))
        return Reason(
            "gives way to {} ({}): team {} is inside its guarantee, team {} had borrowed",
            (name, title, owner, borrower),
        )
    if why == OUTBID:
        return Reason("outbid by {}", (name,))
    if why == BEHIND:
        return Reason("suspended at no loss for {}, which has less left to do", (name,))
    return Reason(
        "preempted by {} ({}); {:.4g} replica-seconds are lost", (name, title, float(draft.jobs.unsaved_s[row]))
    )
