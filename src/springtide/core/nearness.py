"""Replicas of one job on few nodes: together they are faster, so a job that changes its size may move to others."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np

from springtide.core import placement, wishes
from springtide.core.draft import Draft
from springtide.core.resources import FloatArray, IntArray
from springtide.core.snapshot import Slot


class Arrangement(NamedTuple):
    """What a job gives up and takes for a new size, and on how many nodes it is then."""

    removed: list[Slot]
    added: list[Slot]
    nodes: int


def arrange(
    draft: Draft, row: int, count: int, per_node: int, free: FloatArray, device_free: FloatArray, fixed: int
) -> Arrangement | None:
    """`count` replicas on few nodes, where it is already if possible; the first `fixed` slots stay. None if no room."""
    request = draft.request(row)
    held = list(draft.holding(row))
    own = Counter(slot.node for slot in held)
    stay = Counter(slot.node for slot in held[:fixed])
    room = np.where(placement.allowed(draft, row), placement.room(free, device_free, request), 0.0)
    room = np.minimum(room, count)
    mine = np.zeros(len(room))
    mine[list(own)] = list(own.values())
    where = _nodes(room + mine, mine, wishes.disliked(draft, row), count, per_node)
    if where is None or any(where.get(node, 0) < many for node, many in stay.items()):
        return None
    removed: list[Slot] = []
    for node, many in own.items():
        here = [slot for slot in held if slot.node == node]
        removed += here[min(many, where.get(node, 0)) :]
    added: list[Slot] = []
    for node, many in where.items():
        added += placement.settle([node] * (many - own.get(node, 0)), request, device_free)
    return Arrangement(removed, added, len(where))


def _nodes(room: FloatArray, mine: FloatArray, disliked: IntArray, count: int, per_node: int) -> dict[int, int] | None:
    where: dict[int, int] = {}
    room = room.copy()
    while count > 0:
        wanted = min(count, per_node)
        whole = np.flatnonzero(room >= wanted)
        if len(whole):  # of the nodes that hold all that is wanted: its own, then the preferred, then the tightest
            node = int(whole[np.lexsort((whole, room[whole], disliked[whole], -mine[whole]))[0]])
        else:
            node = int(np.lexsort((disliked, -mine, -room))[0])
            wanted = int(room[node])
            if wanted <= 0:
                return None
        where[node] = wanted
        room[node] = 0.0
        count -= wanted
    return where
