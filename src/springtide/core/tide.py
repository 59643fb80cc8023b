"""What services need: replicas for the load now and soon, quick to rise, slow to fall.

A rise is followed in the pass that sees it, and prepared for by what the load usually does at this time of the week.
What a service holds beyond its need it keeps while its load was higher a moment ago (the highest recommendation of a
window, as Autopilot does: Rzadca et al., EuroSys'20); but it is surplus meanwhile, which any minimum may take at once.
"""

from __future__ import annotations

import math

import numpy as np

from springtide.core import filling, wishes
from springtide.core.draft import Draft
from springtide.core.load import BIN_S, MONDAY_S
from springtide.core.reasons import Reason, Replicas
from springtide.core.resources import GPU, SLACK, FloatArray, IntArray
from springtide.core.snapshot import ANYHOW, SERVICE, TRAINING, Slot, Snapshot


def need(draft: Draft) -> None:
    """Sets the replicas that each service needs, within its range, and takes those that nobody needs any more."""
    jobs = draft.jobs
    # A service without a load is as large as its owner says.
    most = np.where(jobs.kind == SERVICE, jobs.minimum, np.maximum(jobs.maximum, jobs.minimum))
    if jobs.loads:
        rows, needed, kept = wanted(draft.snapshot)
        draft.need[rows], most[rows] = needed, kept
    for row in np.flatnonzero(draft.count > most).tolist():
        _give_up(draft, row, int(draft.count[row] - most[row]))


def wanted(snapshot: Snapshot) -> tuple[IntArray, IntArray, IntArray]:
    """Rows of services with a load; the replicas that each needs; and how many of those it holds it may keep."""
    jobs, settings, now_s = snapshot.jobs, snapshot.settings, snapshot.now_s
    known = jobs.loads.expected(now_s - settings.scale_down_after_s, now_s, now_s + settings.lookahead_s)
    headroom = np.where(np.isnan(known.headroom), settings.headroom, known.headroom)
    scale = (1.0 + headroom) / known.per_replica
    now = np.maximum(known.rate, known.ahead)
    needed, kept = (_whole(one * scale, snapshot, known.rows) for one in (now, np.maximum(now, known.before)))
    return known.rows, needed, kept


def next_fall_s(snapshot: Snapshot) -> float:
    """When some service's need or what it may keep can next change though nothing is measured; inf for never."""
    now_s, after_s = snapshot.now_s, snapshot.settings.scale_down_after_s
    moments = [math.inf]
    for load in snapshot.jobs.loads.values():
        moments += [until_s + after_s for until_s, _ in load.recent if until_s + after_s > now_s]
        if load.bin is not None and (load.pattern is not None or not np.isnan(load.usual).all()):
            moments.append((math.floor((now_s - MONDAY_S) / BIN_S) + 1) * BIN_S + MONDAY_S)
    return min(moments)


def _whole(replicas: FloatArray, snapshot: Snapshot, rows: IntArray) -> IntArray:
    """Whole replicas within each service's range."""
    jobs = snapshot.jobs
    bounded = np.clip(np.ceil(replicas * (1 - SLACK)), jobs.minimum[rows], jobs.maximum[rows])
    whole: IntArray = bounded.astype(np.int64)
    return whole


def _give_up(draft: Draft, row: int, count: int) -> None:
    left = int(draft.count[row]) - count
    if draft.jobs.kind[row] == SERVICE and row in draft.jobs.loads:
        reason = Reason(
            "its load needs no more than {} since {:g} s", (Replicas(left), draft.settings.scale_down_after_s)
        )
    else:
        reason = Reason("its owner asks for at most {}", (Replicas(left),))
    draft.give(row, spare(draft, row, count), reason)


def spare(draft: Draft, row: int, count: int) -> list[Slot]:
    """The `count` slots that a job gives up: those whose room is worth most to others.

    First what stands on nodes that are lost or being emptied, then node by node where most is free already, so that
    whole nodes and whole devices come free; but of two nodes left a service keeps a replica on both. Where replicas are
    to be spread or packed, that comes first.
    """
    held = draft.held(row)
    nodes = np.array([slot.node for slot in held], dtype=np.int64)
    capacity = draft.nodes.capacity[nodes]
    counted = np.isfinite(capacity) & (capacity > 0)
    share = np.where(counted, draft.free[nodes], 0.0) / np.where(counted, capacity, 1.0)
    asked = draft.request(row) > 0
    empty = np.where(draft.nodes.alive[nodes], share[:, asked].sum(axis=1), np.inf)
    order = np.lexsort((-np.arange(len(held)), -_device_left(draft, held), nodes, -empty)).tolist()
    order = _least_stranding(draft, row, nodes, count, order)
    if wishes.arranged(draft, row) != ANYHOW:
        order = wishes.given_up(draft, row, nodes.tolist(), order)
    elif len(held) - count > 1:
        order = _apart(order, np.where(draft.nodes.alive[nodes], nodes, -1).tolist())
    return [held[at] for at in order[:count]]


def _least_stranding(draft: Draft, row: int, nodes: IntArray, count: int, order: list[int]) -> list[int]:
    """The same order, but first the slots whose leaving strands least of what elastic work could fill."""
    alive = draft.nodes.alive[nodes]
    if not alive.all() or not np.isfinite(draft.request(row)).all():
        return order
    free = draft.free.copy()
    for other in np.flatnonzero((draft.jobs.kind == TRAINING) & (draft.count > draft.need)).tolist():
        for slot in draft.held(other)[int(draft.need[other]) :]:
            free[slot.node] += draft.request(other)  # surplus is as good as free
    held = np.bincount(nodes, minlength=len(free))
    leaving = filling.leaving(draft, draft.request(row), free, held, count)
    first: list[int] = []
    for at in order:
        if leaving.get(int(nodes[at]), 0):
            leaving[int(nodes[at])] -= 1
            first.append(at)
    return first + [at for at in order if at not in set(first)]


def _device_left(draft: Draft, held: list[Slot]) -> FloatArray:
    """(H,) what is free beside each slot's share of a GPU: the emptier device is emptied first."""
    if not draft.snapshot.shapes.request[:, GPU].any():
        return np.zeros(len(held))
    return np.array([_first_device(draft, slot) for slot in held])


def _first_device(draft: Draft, slot: Slot) -> float:
    if not slot.devices:
        return 0.0
    return float(draft.device_free[slot.node, (slot.devices & -slot.devices).bit_length() - 1])


def _apart(order: list[int], nodes: list[int]) -> list[int]:
    """The same order, but a slot on each of the two nodes (not -1) that come last is given up last of all."""
    last: dict[int, int] = {}
    for at in reversed(order):
        if nodes[at] >= 0 and nodes[at] not in last and len(last) < 2:
            last[nodes[at]] = at
    return [at for at in order if at not in last.values()] + sorted(last.values(), key=order.index)
