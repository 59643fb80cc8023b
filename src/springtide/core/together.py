"""Many replicas placed at once, shape by shape: what a pass does while there is room for everybody.

Where all of a long queue fits, its order decides nothing but places. So it is not walked job by job (which would score
all nodes for each): each shape fills nodes in one sweep, and the cost is that of shapes x nodes plus replicas.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from springtide.core import placement, resources, wishes
from springtide.core.draft import Draft, book
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, SLACK, FloatArray, IntArray
from springtide.core.snapshot import ANYHOW, Slot

WORTH_IT = 64  # jobs; below, one by one is as fast and places better


def take_all(draft: Draft, rows: IntArray, counts: IntArray, reason: Reason) -> bool:
    """Gives each job `counts` more replicas, if free room holds all of them; else changes nothing and says False."""
    free, device_free = draft.free.copy(), draft.device_free.copy()
    places: list[tuple[int, Sequence[Slot]]] = []
    shapes = draft.jobs.shape[rows]
    distinct = np.unique(shapes)
    for shape in distinct[np.argsort(-_weight(draft, distinct), kind="stable")]:
        here = np.flatnonzero(shapes == shape)
        # Of those that are arranged each is placed for itself: it matters which replicas are whose.
        alone = wishes.arranged(draft, int(rows[here[0]])) != ANYHOW
        for some in np.split(here, len(here)) if alone else [here]:
            slots = _fill(draft, int(rows[some[0]]), int(counts[some].sum()), free, device_free)
            if slots is None:
                return False
            ends = np.cumsum(counts[some]).tolist()
            begins = [0, *ends[:-1]]
            places += [(int(rows[k]), slots[a:b]) for k, a, b in zip(some, begins, ends, strict=True)]
    draft.take_placed(places, free, device_free, reason)
    return True


def longest_prefix(draft: Draft, rows: IntArray, counts: IntArray, reason: Reason) -> int:
    """Gives a prefix of the queue what it lacks and returns its length: all of it, or what halving finds to fit."""
    length = len(rows)
    for _ in range(4):
        if length < WORTH_IT:
            return 0
        if take_all(draft, rows[:length], counts[:length], reason):
            return length
        length //= 2
    return 0


def _weight(draft: Draft, shapes: IntArray) -> FloatArray:
    """Large replicas are placed first: small ones fit into what they leave."""
    return resources.dominant(draft.snapshot.shapes.request[shapes], draft.nodes.total())


def _fill(draft: Draft, row: int, total: int, free: FloatArray, device_free: FloatArray) -> list[Slot] | None:
    """Slots for `total` replicas of the job's shape, booked in the arrays; None if they do not fit."""
    request = draft.request(row)
    fits = np.where(placement.allowed(draft, row), placement.room(free, device_free, request), 0)
    if fits.sum() < total:
        return None
    order = _fullest_first(draft, row, request, free, fits)
    if wishes.arranged(draft, row) != ANYHOW:
        return _arranged(draft, row, request, total, free, device_free, fits, order)
    used = np.minimum(np.cumsum(np.minimum(fits[order], total)), total)
    share = np.diff(used, prepend=0).astype(np.int64)
    nodes, share = order[share > 0], share[share > 0]
    free[nodes] -= share[:, None] * request
    if request[GPU] <= 0:
        slots: list[Slot] = []
        for node, count in zip(nodes.tolist(), share.tolist(), strict=True):
            slots += [Slot(node)] * count
        return slots
    return _with_devices(nodes, share, float(request[GPU]), free, device_free)


def _arranged(
    draft: Draft, row: int, request: FloatArray, total: int, free: FloatArray, device_free: FloatArray,
    fits: FloatArray, order: IntArray,
) -> list[Slot]:  # fmt: skip
    """Slots of one job as it would have them arranged, booked in the arrays; `order` are the nodes with room."""
    rank = np.full(len(fits), np.inf)
    rank[order] = np.arange(len(order))
    slots = placement.settle(wishes.places(draft, row, fits, rank, total), request, device_free)
    book(free, device_free, request, slots, -1)
    return slots


def _fullest_first(draft: Draft, row: int, request: FloatArray, free: FloatArray, fits: FloatArray) -> IntArray:
    """Nodes with room: preferred ones, then those left with least; work without GPUs keeps off free GPUs."""
    nodes = np.flatnonzero(fits > 0)
    capacity = draft.nodes.capacity[nodes]
    counted = np.isfinite(capacity) & (capacity > 0)
    left = np.where(counted, free[nodes], 0.0) / np.where(counted, capacity, 1.0)
    asked = request > 0
    spare_gpus = free[nodes, GPU] > 0 if request[GPU] <= 0 else np.zeros(len(nodes), dtype=bool)
    disliked = wishes.disliked(draft, row)[nodes]
    return nodes[np.lexsort((nodes, left[:, asked].sum(axis=1), spare_gpus, disliked))]


def _with_devices(
    nodes: IntArray, share: IntArray, gpu: float, free: FloatArray, device_free: FloatArray
) -> list[Slot]:
    """One slot per replica with its devices, booked: the first whole ones, or the tightest that holds the share."""
    slots = []
    part = min(gpu, 1.0)
    for node, count in zip(nodes.tolist(), share.tolist(), strict=True):
        devices = device_free[node].tolist()
        for _ in range(count):
            if gpu < 1:
                fitting = [k for k, left in enumerate(devices) if left >= gpu - SLACK]
                chosen = [min(fitting, key=devices.__getitem__)]
            else:
                chosen = [k for k, left in enumerate(devices) if left >= 1 - SLACK][: int(gpu)]
            for k in chosen:
                devices[k] = 0.0 if abs(devices[k] - part) < SLACK else devices[k] - part
            slots.append(Slot(node, sum(1 << k for k in chosen)))
        device_free[node] = devices
        free[node, GPU] = sum(left for left in devices if left > 0)
    return slots
