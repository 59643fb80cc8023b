"""Why a job waits: one sentence with its numbers, the same for all who ask for the same."""

from __future__ import annotations

import numpy as np

from springtide.core import claims, placement, shrink
from springtide.core.claims import Claim
from springtide.core.door import MANY_SHAPES, Door
from springtide.core.reasons import Figure, Reason, Replicas
from springtide.core.resources import GPU, KINDS, FloatArray
from springtide.core.shares import Queue


def explain(door: Door, waiting: list[Queue]) -> None:
    """Writes the reason of everybody who waits; the first queue's head is first in line."""
    if not waiting:
        return
    if len(waiting) >= MANY_SHAPES:
        door.look_at_empty(np.unique([queue.shape for queue in waiting]))
    free = np.maximum(door.draft.free[door.draft.nodes.alive], 0.0).sum(axis=0)
    for queue in waiting:
        reason = _reason(door, queue, waiting[0].head(), free)
        door.draft.waits.update(dict.fromkeys(queue.rows(), reason))


def _reason(door: Door, queue: Queue, first: int, free: FloatArray) -> Reason:
    draft = door.draft
    claim = claims.claim_of(draft, queue.head())
    if not door.fits_empty(claim):
        return _never(door, claim)
    barrier = door.quota.barrier(claim.team, claim.amount)
    kind = _scarcest(door, claim, barrier, free)
    team, uses = _team(door, claim.team if barrier < 0 else barrier, kind)
    line = ("first in line is {} ({})", shrink.title(draft, first))
    template = "waits for {} {}: " + team + "; {} are free, " + line[0]
    return Reason(
        template, (Figure(kind, claim.amount[kind]), KINDS[kind], *uses, Figure(kind, float(free[kind])), *line[1])
    )


def _team(door: Door, team: int, kind: int) -> tuple[str, tuple[object, ...]]:
    """What the team uses of what it has, in words and numbers."""
    quota = door.quota
    name, used = quota.teams.names[team], Figure(kind, float(quota.needed[team, kind]))
    guarantee, borrow = float(quota.guarantee[team, kind]), float(quota.teams.borrow[team, kind])
    has = (name, used, Figure(kind, guarantee), Figure(kind, borrow))
    if not np.isfinite(borrow):
        return (
            ("team {} uses {} of its {} guaranteed and may borrow more", has[:3])
            if guarantee
            else ("team {} uses {}", has[:2])
        )
    return "team {} uses {} of its {} guaranteed and may borrow {}", has


def _never(door: Door, claim: Claim) -> Reason:
    """No node, however empty, would do: which resource is too much, and what the largest node has of it."""
    draft = door.draft
    allowed = placement.allowed(draft, claim.row)
    if not allowed.any():
        return Reason("waits for a node: none that is alive has the labels that it wishes for")
    capacity = np.where(allowed[:, None], draft.nodes.capacity, 0.0)
    with np.errstate(invalid="ignore"):
        short = np.where(claim.request > 0, claim.request / np.maximum(capacity.max(axis=0), 1e-300), 0.0)
    kind = int(np.argmax(short))
    if short[kind] <= 1:
        return Reason("waits for {}: an empty pool holds {}", (Replicas(claim.count), int(door.empty_room(claim))))
    largest = int(np.argmax(capacity[:, kind]))
    values = (
        Figure(kind, claim.request[kind]),
        KINDS[kind],
        draft.nodes.names[largest],
        Figure(kind, capacity[largest, kind]),
    )
    return Reason("waits for {} {} on one node: the largest, {}, has {}", values)


def _scarcest(door: Door, claim: Claim, barrier: int, free: FloatArray) -> int:
    """The resource that it waits for: the one whose limit is passed by most, else that of which least is free."""
    quota = door.quota
    if barrier >= 0:
        room: FloatArray = quota.limit[barrier] - quota.needed[barrier]
    elif claim.request[GPU] > 0:
        return GPU
    else:
        room = free
    asked = np.where(claim.amount > 0, claim.amount, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        over = np.where((asked > 0) & np.isfinite(room), asked / np.maximum(room, 1e-12), -1.0)
    return int(np.argmax(over))
