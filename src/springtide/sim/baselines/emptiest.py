"""Placement of Pollux's artifact: on the node with most free GPUs, then on the next."""

from __future__ import annotations

import numpy as np

from springtide.core import placement
from springtide.core.draft import Draft
from springtide.core.resources import GPU
from springtide.core.snapshot import Slot


def choose(draft: Draft, row: int, count: int) -> list[Slot]:
    """Slots for `count` replicas; fewer where fewer fit."""
    request = draft.request(row)
    fits = np.where(placement.allowed(draft, row), placement.room(draft.free, draft.device_free, request), 0.0)
    slots: list[Slot] = []
    for node in np.argsort(-fits, kind="stable").tolist():
        here = int(min(fits[node], count - len(slots)))
        if here <= 0:
            break
        left = draft.device_free[node].copy()
        for _ in range(here):
            bits = placement.devices(left, float(request[GPU]))
            slots.append(Slot(node, bits))
            for device in range(len(left)):
                if bits >> device & 1:
                    left[device] -= min(float(request[GPU]), 1.0)
    return slots
