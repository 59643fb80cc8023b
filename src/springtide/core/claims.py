"""A minimum that asks for room: where it would fit if others gave way, and what exactly is taken from them there."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from springtide.core import placement, resources, wishes
from springtide.core.draft import Draft
from springtide.core.holdings import Holdings, return_slots
from springtide.core.resources import GPU, SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import SERVICE, Slot


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """`count` more replicas of a job. `most` (N,): what a reservation leaves to it on each node; None: everything."""

    row: int
    count: int
    request: FloatArray  # (5,) of one replica
    team: int
    priority: int
    partial: bool  # a service: fewer are better than none
    most: FloatArray | None = None

    @property
    def amount(self) -> FloatArray:
        """(5,) all that it asks for."""
        amount: FloatArray = self.request * self.count
        return amount


def claim_of(draft: Draft, row: int, most: FloatArray | None = None) -> Claim:
    """What the job still lacks."""
    jobs = draft.jobs
    lacking = int(draft.need[row] - draft.count[row])
    service = int(jobs.kind[row]) == SERVICE
    return Claim(row, lacking, draft.request(row), int(jobs.team[row]), int(jobs.priority[row]), service, most)


def fits(draft: Draft, claim: Claim, free: FloatArray, device_free: FloatArray) -> FloatArray:
    """(N,) how many of the claim's replicas each node would hold with so much free, at most `count`."""
    room = np.where(placement.allowed(draft, claim.row), placement.room(free, device_free, claim.request), 0.0)
    if claim.most is not None:
        room = np.minimum(room, claim.most)
    return np.minimum(room, claim.count)


def nowhere(draft: Draft, shapes: IntArray, free: FloatArray, device_free: FloatArray) -> BoolArray:
    """(len(shapes),) whether not even one replica of each shape has room on any node, its wishes aside."""
    request = draft.snapshot.shapes.request[shapes]
    fit: BoolArray = np.ones((len(shapes), len(free)), dtype=bool)
    for kind in np.flatnonzero(request.any(axis=0)).tolist():
        if kind != GPU:
            np.logical_and(fit, free[:, kind] * (1 + SLACK) + SLACK >= request[:, kind, None], out=fit)
        elif not device_free.shape[1]:
            np.logical_and(fit, request[:, GPU, None] <= 0, out=fit)
        else:
            gpu = request[:, GPU, None]
            whole = (device_free >= 1 - SLACK).sum(axis=1)
            some = np.logical_or(gpu <= 0, device_free.max(axis=1) >= gpu - SLACK)
            np.logical_and(fit, np.where(gpu >= 1, whole >= gpu, some), out=fit)
    none: BoolArray = np.logical_not(np.asarray(fit.any(axis=1)))
    return none


def copies_within(room: FloatArray, claim: Claim) -> float:
    """How many of the claim's replicas `room` (5,) holds, at most `count`."""
    return min(float(resources.copies(room, claim.request)), float(claim.count))


def spread(draft: Draft, claim: Claim, room: FloatArray, free_room: FloatArray) -> dict[int, int]:
    """node -> replicas: as the job wishes; else on few nodes, and where least must be taken from others."""
    count = claim.count
    if wishes.any_of(draft, claim.row):
        return dict(Counter(wishes.places(draft, claim.row, room, -free_room, count)))
    nodes = np.flatnonzero(room > 0)
    whole = nodes[room[nodes] >= count]
    if len(whole):
        best = whole[np.lexsort((whole, -free_room[whole]))[0]]
        return {int(best): count}
    chosen: dict[int, int] = {}
    for node in nodes[np.lexsort((nodes, -free_room[nodes], -room[nodes]))].tolist():
        chosen[node] = int(min(room[node], count))
        count -= chosen[node]
        if not count:
            break
    return chosen


def settle(draft: Draft, claim: Claim, where: dict[int, int]) -> list[Slot]:
    """Slots for so many replicas on these nodes, in what is free there now."""
    return placement.settle(Counter(where).elements(), claim.request, draft.device_free)


def fewest(holdings: Holdings, claim: Claim, where: dict[int, int], indices: IntArray, unit: IntArray) -> list[int]:
    """Which units must be given up so that the claim fits `where`.

    `indices` (K,) are slots of the table that may be taken, `unit` (K,) which of them go together, numbered in the
    order in which they are taken: one after the other until it fits; what was taken in vain is given back.
    """
    draft = holdings.draft
    nodes = list(where)
    at = {node: place for place, node in enumerate(nodes)}
    here = np.isin(holdings.node[indices], nodes)
    indices, unit = indices[here], unit[here]
    order = np.argsort(unit, kind="stable")
    indices, unit = indices[order], unit[order]
    place = np.array([at[node] for node in holdings.node[indices].tolist()], dtype=np.int64)
    free, device_free = draft.free[nodes].copy(), draft.device_free[nodes].copy()
    wanted = np.array([where[node] for node in nodes])
    devices, request = holdings.devices[indices], holdings.request(indices)
    members = np.split(np.arange(len(unit)), np.flatnonzero(np.diff(unit)) + 1) if len(unit) else []

    def lacking(free: FloatArray, device_free: FloatArray) -> BoolArray:
        return placement.room(free, device_free, claim.request) < wanted

    taken: list[IntArray] = []
    short = lacking(free, device_free)
    for member in members:
        if not short.any():
            break
        if short[place[member]].any():
            return_slots(free, device_free, place[member], devices[member], request[member])
            short = lacking(free, device_free)
            taken.append(member)
    if short.any():
        return []
    for member in reversed(taken[:-1]):
        rest = [one for one in taken if one is not member]
        free, device_free = draft.free[nodes].copy(), draft.device_free[nodes].copy()
        some = np.concatenate(rest)
        return_slots(free, device_free, place[some], devices[some], request[some])
        if not lacking(free, device_free).any():
            taken = rest
    return [int(unit[member[0]]) for member in taken]
