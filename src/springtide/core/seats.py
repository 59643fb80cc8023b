"""Where groups of jobs that share GPUs sit: which devices are theirs, and how a new grouping gets onto the nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from springtide.core import placement
from springtide.core.draft import Draft, bits
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import Slot


def groups_of(draft: Draft, rows: IntArray) -> list[list[int]]:
    """The rows that hold something, those on the same slots together."""
    found: dict[tuple[Slot, ...], list[int]] = {}
    for row in rows.tolist():
        if draft.count[row]:
            found.setdefault(tuple(sorted(draft.holding(row))), []).append(row)
    return list(found.values())


def held_devices(draft: Draft, rows: IntArray) -> int:
    """GPUs that these rows hold together, each counted once."""
    return len({(slot.node, bit) for row in rows.tolist() for slot in draft.holding(row) for bit in bits(slot.devices)})


def free_devices(draft: Draft, rows: IntArray) -> int:
    """GPUs that would be wholly free without these rows."""
    _, devices = _without(draft, rows)
    return int((devices[draft.nodes.alive] >= 1 - SLACK).sum())


def settle(draft: Draft, rows: IntArray, groups: Sequence[Sequence[int]], reasons: tuple[Reason, Reason]) -> bool:
    """Gives the groups their slots and takes from the other `rows` theirs; False, and no change, if they do not fit.

    A group stays where one of its members is, if it can; else all groups are placed anew, the largest first.
    `reasons` are for those who run alone, and for those who share.
    """
    ranked = sorted(groups, key=lambda group: (-draft.request(group[0])[GPU], -draft.need[group[0]]))
    places = _placed(draft, rows, ranked, stay=True) or _placed(draft, rows, ranked, stay=False)
    if places is None or not _holds(draft, rows, ranked, places):
        return False
    wanted = {
        row: (slots, reasons[len(group) > 1]) for group, slots in zip(ranked, places, strict=True) for row in group
    }
    moving = []
    for row in rows.tolist():
        slots, why = wanted.get(row, ((), Reason("suspended: others are ahead of it by remaining service")))
        if sorted(draft.holding(row)) == sorted(slots):
            continue
        if draft.count[row]:
            draft.give(row, draft.held(row), why)
        if slots:
            moving.append((row, slots, why))
    for row, slots, why in moving:
        draft.take(row, slots, why)
    return True


def _without(draft: Draft, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    free, devices = draft.free.copy(), draft.device_free.copy()
    for row in rows.tolist():
        if draft.count[row]:
            _book_whole(free, devices, draft.request(row), draft.holding(row), +1)
    return free, devices


def _book_whole(free: FloatArray, devices: FloatArray, request: FloatArray, slots: Sequence[Slot], sign: int) -> None:
    """As `draft.book`, for whole GPUs, where nothing has to be rounded."""
    for node, named in slots:
        free[node] += sign * request
        devices[node, bits(named)] += sign
        free[node, GPU] = np.maximum(devices[node], 0.0).sum()


def _placed(draft: Draft, rows: IntArray, groups: Sequence[Sequence[int]], stay: bool) -> list[tuple[Slot, ...]] | None:
    """Slots of each group, or None where one finds none. A group's slots are booked once, whoever shares them."""
    free, devices = _without(draft, rows)
    places: list[tuple[Slot, ...] | None] = [None] * len(groups)
    if stay:
        for at, group in enumerate(groups):
            places[at] = _stays(draft, group, free, devices)
    for at, group in enumerate(groups):
        if places[at] is None:
            places[at] = _finds(draft, group[0], free, devices)
        if places[at] is None:
            return None
    return [place for place in places if place is not None]


def _stays(draft: Draft, group: Sequence[int], free: FloatArray, devices: FloatArray) -> tuple[Slot, ...] | None:
    """The slots that most of the group hold, if they are free."""
    held = Counter(tuple(sorted(draft.holding(row))) for row in group if draft.count[row])
    for slots, _ in held.most_common():
        if len(slots) == draft.need[group[0]] and _is_free(devices, slots):
            _book_whole(free, devices, draft.request(group[0]), slots, -1)
            return slots
    return None


def _is_free(devices: FloatArray, slots: Sequence[Slot]) -> bool:
    return all(devices[slot.node, bit] >= 1 - SLACK for slot in slots for bit in bits(slot.devices))


def _finds(draft: Draft, row: int, free: FloatArray, devices: FloatArray) -> tuple[Slot, ...] | None:
    """Room for the whole of the job, on nodes that keep least."""
    request, need = draft.request(row), int(draft.need[row])
    fits: FloatArray = np.where(placement.allowed(draft, row), placement.room(free, devices, request), 0)
    slots: list[Slot] = []
    for node in np.lexsort((np.arange(len(fits)), np.where(fits > 0, free[:, GPU], np.inf))).tolist():
        for _ in range(int(min(fits[node], need - len(slots)))):
            slot = Slot(node, placement.devices(devices[node], float(request[GPU])))
            _book_whole(free, devices, request, [slot], -1)
            slots.append(slot)
        if len(slots) == need:
            return tuple(sorted(slots))
    return None


def _holds(draft: Draft, rows: IntArray, groups: Sequence[Sequence[int]], places: list[tuple[Slot, ...]]) -> bool:
    """Whether cpu, memory and what else is not shared suffices for all of each group, not only for one."""
    free, devices = _without(draft, rows)
    for group, slots in zip(groups, places, strict=True):
        for row in group:
            _book_whole(free, devices, draft.request(row), slots, -1)
    kept: BoolArray = np.delete(free, GPU, axis=1) >= -SLACK
    return bool(kept.all())
