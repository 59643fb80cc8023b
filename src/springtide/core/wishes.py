"""Where a job would rather be: on nodes with labels that it prefers, over many nodes, or on few.

Wishes choose among places that are free, and move nothing: nobody gives way for one, and nobody waits for one.
"""

from __future__ import annotations

import numpy as np

from springtide.core.draft import Draft
from springtide.core.resources import FloatArray, IntArray
from springtide.core.snapshot import ANYHOW, PACK, SPREAD


def arranged(draft: Draft, row: int) -> int:
    """ANYHOW, SPREAD or PACK."""
    return int(draft.snapshot.shapes.arrange[draft.jobs.shape[row]])


def any_of(draft: Draft, row: int) -> bool:
    """Whether the job has a wish at all."""
    return bool(draft.snapshot.shapes.prefers[draft.jobs.shape[row]]) or arranged(draft, row) != ANYHOW


def disliked(draft: Draft, row: int) -> IntArray:
    """(N,) how many of the labels that it prefers each node lacks."""
    prefers = draft.snapshot.shapes.prefers[draft.jobs.shape[row]]
    missed = [sum(labels.get(key) not in values for key, values in prefers.items()) for labels in draft.nodes.labels]
    found: IntArray = np.array(missed, dtype=np.int64)[draft.nodes.group]
    return found


def first(draft: Draft, row: int, nodes: IntArray) -> IntArray:
    """Of (F,) `nodes` with room those on which it would have one replica more; all of them where it has no wish."""
    if not any_of(draft, row):
        return nodes
    own = _own(draft, row)[nodes]
    if (how := arranged(draft, row)) != ANYHOW:
        nodes = nodes[own == (own.min() if how == SPREAD else own.max())]
    missed = disliked(draft, row)[nodes]
    best: IntArray = nodes[missed == missed.min()]
    return best


def places(draft: Draft, row: int, room: FloatArray, rank: FloatArray, count: int) -> list[int]:
    """A node for each of up to `count` replicas more: (N,) `room` for so many there, (N,) `rank`, the least best.

    In the order in which the job is to have them: the latest are the first that it gives back.
    """
    missed = disliked(draft, row)
    nodes = np.flatnonzero(room > 0)
    nodes = nodes[np.lexsort((nodes, rank[nodes], missed[nodes]))]
    most: IntArray = np.minimum(room[nodes], count).astype(np.int64)
    own, how = _own(draft, row)[nodes], arranged(draft, row)
    if how == SPREAD:
        at = _levelled(own, most, count)
    elif how == PACK:
        at = _packed(own, most, missed[nodes], count)
    else:
        at = np.repeat(np.arange(len(nodes)), most)[:count]
    found: list[int] = nodes[at].tolist()
    return found


def given_up(draft: Draft, row: int, nodes: list[int], order: list[int]) -> list[int]:
    """Slots (H,) on `nodes`, which the job would give up in this `order`, as its arrangement would have it.

    Spread replicas stay on as many nodes as they can, packed ones leave the nodes that have fewest of them.
    """
    how = arranged(draft, row)
    left = np.bincount(nodes).tolist()
    of_node, level = left.copy(), [0] * len(nodes)
    for at in order:
        level[at] = left[nodes[at]]
        left[nodes[at]] -= 1
    dead = [not draft.nodes.alive[node] for node in nodes]
    if how == SPREAD:
        return sorted(order, key=lambda at: (not dead[at], -level[at]))
    if how == PACK:
        return sorted(order, key=lambda at: (not dead[at], of_node[nodes[at]], nodes[at]))
    return order


def _own(draft: Draft, row: int) -> IntArray:
    """(N,) the job's replicas on each node."""
    return np.bincount([slot.node for slot in draft.holding(row)], minlength=len(draft.free)).astype(np.int64)


def _levelled(own: IntArray, room: IntArray, count: int) -> IntArray:
    """One after the other where it has fewest (`own`); of equal ones the first."""
    low, high = 0, int((own + room).max(initial=0))
    while low < high:  # the least level up to which all are filled
        middle = (low + high) // 2
        enough = np.clip(middle - own, 0, room).sum() >= count
        low, high = (low, middle) if enough else (middle + 1, high)
    more = np.clip(high - own, 0, room)
    at = np.repeat(np.arange(len(own)), more)
    step = np.arange(len(at)) - np.repeat(np.cumsum(more) - more, more)
    found: IntArray = at[np.lexsort((at, own[at] + step))][:count]
    return found


def _packed(own: IntArray, room: IntArray, missed: IntArray, count: int) -> IntArray:
    """Beside its own; then on a node that holds all that is left, else where most go."""
    found: list[int] = []
    room = room.copy()
    while len(found) < count and room.any():
        wanted = count - len(found)
        beside = np.where(room > 0, own, 0)
        at = int(np.lexsort((missed, -np.minimum(room, wanted), -beside))[0])
        found += [at] * min(int(room[at]), wanted)
        room[at] = 0
    return np.array(found, dtype=np.int64)
