"""Who gives way: surplus first, then spot by lowest bid, then what loses least; never an equal or a better."""

from __future__ import annotations

from springtide.core.draft import Draft
from springtide.core.snapshot import Slot


def make_room(draft: Draft, row: int, count: int) -> list[Slot]:
    """Takes from others what `count` more replicas need, and returns their slots; [] and no change if it cannot be."""
    return []
