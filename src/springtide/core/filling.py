"""Which places leave a rest that elastic work can fill: fixed replicas go where they strand least of it.

Elastic replicas move at no loss, so what they could use on a node is what fixed ones leave there, in whole copies. The
rest of that division is stranded: three 5-core workers on 16 cores strand one, two of them beside two 3-core servers
none. So places for several replicas are chosen together, by what is stranded per replica, and given up the same way.
Without elastic work that could grow there is no preference. Not for GPUs: placement weighs their fragments.
"""

from __future__ import annotations

import numpy as np

from springtide.core import resources
from springtide.core.draft import Draft
from springtide.core.resources import GPU, SLACK, FloatArray, IntArray
from springtide.core.snapshot import TRAINING

MOST_FILLERS = 4  # shapes of elastic work that are looked at, those with most room to grow
MOST_TOGETHER = 16  # replicas on one node that are weighed together


def fillers(draft: Draft) -> tuple[FloatArray, FloatArray]:
    """(F, 5) requests of work without GPUs that could fill what is left, and (F,) how much of it there is, sum 1."""
    jobs, request = draft.jobs, draft.snapshot.shapes.request
    rows = np.flatnonzero((jobs.kind == TRAINING) & (jobs.maximum > draft.need) & (draft.count >= draft.need))
    rows = rows[request[jobs.shape[rows], GPU] == 0]
    if not len(rows):
        return np.zeros((0, resources.COUNT)), np.zeros(0)
    each = resources.dominant(request, draft.nodes.total())
    amounts = np.bincount(jobs.shape[rows], (jobs.maximum - draft.need)[rows] * each[jobs.shape[rows]], len(request))
    shapes = np.argsort(-amounts, kind="stable")[:MOST_FILLERS]
    shapes = shapes[amounts[shapes] > 0]
    weight: FloatArray = amounts[shapes] / max(float(amounts[shapes].sum()), SLACK)
    return request[shapes], weight


def stranded(free: FloatArray, request: FloatArray, weight: FloatArray) -> FloatArray:
    """(...) of (..., 5) free: what whole copies of the fillers leave of what they need most, in copies, weighted."""
    left = np.zeros(free.shape[:-1])
    for each, part in zip(request, weight, strict=True):
        asked = each > 0
        ratio = np.where(np.isfinite(free[..., asked]), free[..., asked], 0.0) / each[asked]
        copies = np.floor(ratio.min(axis=-1) * (1 + SLACK) + SLACK)
        left += part * np.maximum(ratio.max(axis=-1) - np.maximum(copies, 0.0), 0.0)
    return left


def spread(draft: Draft, request: FloatArray, free: FloatArray, room: FloatArray, count: int) -> dict[int, int]:
    """node -> replicas for `count` of them: (N,) `room` holds so many, (N, 5) `free` would be; {}: no preference."""
    nodes = np.flatnonzero(room > 0)
    filler, weight = fillers(draft) if request[GPU] == 0 else (np.zeros((0, 5)), np.zeros(0))
    if not len(filler) or room[nodes].sum() < count:
        return {}
    share = resources.dominant(free[nodes], draft.nodes.total())
    nodes = nodes[np.lexsort((nodes, share))]  # of equal ones the fullest
    most = np.minimum(room[nodes], count).astype(np.int64)
    return _together(free[nodes], -request, most, count, filler, weight, nodes)


def leaving(draft: Draft, request: FloatArray, free: FloatArray, held: IntArray, count: int) -> dict[int, int]:
    """node -> replicas to give up, of (N,) `held` there, `count` in all; {}: no preference."""
    nodes = np.flatnonzero(held)
    filler, weight = fillers(draft) if request[GPU] == 0 else (np.zeros((0, 5)), np.zeros(0))
    if not len(filler):
        return {}
    return _together(free[nodes], request, held[nodes], count, filler, weight, nodes)


def _together(
    free: FloatArray,
    change: FloatArray,
    most: IntArray,
    count: int,
    filler: FloatArray,
    weight: FloatArray,
    nodes: IntArray,
) -> dict[int, int]:
    """Takes from node to node the number of changes that strands least per change, until there are `count`."""
    width = int(min(most.max(), MOST_TOGETHER, count))
    steps = np.arange(1, width + 1)
    done = np.zeros(len(nodes), dtype=np.int64)

    def costs(at: IntArray) -> FloatArray:
        begun = free[at] + done[at, None] * change
        after = begun[:, None, :] + steps[None, :, None] * change
        more = stranded(after, filler, weight) - stranded(begun, filler, weight)[:, None]
        return np.where(steps <= (most - done)[at, None], np.round(more / steps, 9), np.inf)

    cost = costs(np.arange(len(nodes)))
    while count > 0:
        cost[:, count:] = np.inf
        at, k = divmod(int(np.argmin(cost)), width)
        if not np.isfinite(cost[at, k]):
            break
        done[at] += k + 1
        count -= k + 1
        cost[at] = costs(np.array([at]))[0]
    return {int(node): int(number) for node, number in zip(nodes, done, strict=True) if number}
