"""A plan in the making: a copy of what changes, so that steps of a pass can take and give back freely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from springtide.core.plan import Action, Plan, Verb
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, SLACK, FloatArray, IntArray
from springtide.core.snapshot import SERVICE, Slot, Snapshot

UNEXPLAINED = Reason("nothing was said about it")


class Draft:
    """The working copy of one pass. Rows index jobs; what the snapshot holds is never written to."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.jobs = snapshot.jobs
        self.nodes = snapshot.nodes
        self.settings = snapshot.settings
        self.now_s = snapshot.now_s
        self.free: FloatArray = snapshot.free.copy()
        self.device_free: FloatArray = snapshot.device_free.copy()
        self.count: IntArray = snapshot.jobs.running.copy()
        self.need: IntArray = (
            snapshot.jobs.minimum.copy()
        )  # replicas below which a job does not run (a service: its wish)
        self.refused: set[int] = set()  # rows that may not run in this pass (outbid, out of budget)
        self.core_price = snapshot.prices.core
        self.gpu_price = snapshot.prices.gpu
        self.contested: set[int] = set()  # resources for which a spot bid that would fit was refused
        self.waits: dict[int, Reason] = {}
        self._why: dict[int, Reason] = {}
        self._gave: dict[int, Reason] = {}  # why it last gave something up
        self._held: dict[int, list[Slot]] = {}
        self._freed_on: dict[int, set[int]] = {}  # node -> rows that gave something up there

    def request(self, row: int) -> FloatArray:
        """(5,) what one replica of the job asks for."""
        request: FloatArray = self.snapshot.shapes.request[self.jobs.shape[row]]
        return request

    def held(self, row: int) -> list[Slot]:
        """The job's slots as drafted; a list of the caller's own."""
        return list(self._held.get(row, self.snapshot.held[row]))

    def holding(self, row: int) -> Sequence[Slot]:
        """The job's slots as drafted, to look at: first those that it had first."""
        return self._held.get(row, self.snapshot.held[row])

    def held_nodes(self, row: int) -> int:
        """On how many nodes it is as drafted."""
        return len({slot.node for slot in self.holding(row)})

    def touched(self) -> list[int]:
        """Rows whose slots the draft has looked at to change them."""
        return list(self._held)

    def moved(self, row: int) -> bool:
        """Whether its slots are others than it has."""
        return row in self._held and sorted(self._held[row]) != sorted(self.snapshot.held[row])

    def holdings(self, rows: Sequence[int]) -> list[Sequence[Slot]]:
        """`holding` of many."""
        held = self.snapshot.held
        if self._held:
            return [self._held[row] if row in self._held else held[row] for row in rows]
        return [held[row] for row in rows]

    def take(self, row: int, slots: Iterable[Slot], reason: Reason) -> None:
        """Gives the job these slots; what they need was free, or its devices are shared in turns."""
        taken = list(slots)
        book(self.free, self.device_free, self.request(row), taken, -1)
        self._changed(row).extend(taken)
        self.count[row] += len(taken)
        self._why[row] = reason
        self.waits.pop(row, None)

    def take_placed(
        self, places: Sequence[tuple[int, Sequence[Slot]]], free: FloatArray, device_free: FloatArray, reason: Reason
    ) -> None:
        """Gives many jobs their slots at once; the arrays are those of the draft with all of it booked."""
        self.free, self.device_free = free, device_free
        for row, slots in places:
            self._changed(row).extend(slots)
            self.count[row] += len(slots)
            self._why[row] = reason
            self.waits.pop(row, None)

    def give(self, row: int, slots: Iterable[Slot], reason: Reason) -> None:
        """Takes these slots, which it holds, away from the job: of equal ones the latest."""
        held = self._changed(row)
        given = list(slots)
        for slot in given:
            remove_last(held, slot)
            self._freed_on.setdefault(slot.node, set()).add(row)
        book(self.free, self.device_free, self.request(row), given, +1)
        self.count[row] -= len(given)
        self._why[row] = self._gave[row] = reason

    def wait(self, row: int, reason: Reason) -> None:
        """Says why the job has less than it needs."""
        self.waits[row] = reason

    def _changed(self, row: int) -> list[Slot]:
        if row not in self._held:
            self._held[row] = list(self.snapshot.held[row])
        return self._held[row]

    def plan(self) -> Plan:
        """The difference between the snapshot and the draft: what gives first, then what takes."""
        giving: list[Action] = []
        taking: list[Action] = []
        for row, held in self._held.items():
            added, removed = _difference(held, self.snapshot.held[row])
            if not added and not removed:
                continue
            verb = self._verb(row)
            action = Action(verb, row, added, removed, self._reason(row, verb), self._awaited(row, added))
            (taking if added else giving).append(action)
        services = np.flatnonzero(self.jobs.kind == SERVICE)
        need = dict(zip(services.tolist(), self.need[services].tolist(), strict=True))
        return Plan(tuple(giving + taking), dict(self.waits), need, self.core_price, self.gpu_price)

    def _verb(self, row: int) -> Verb:
        before, after = int(self.jobs.running[row]), int(self.count[row])
        if after == before:
            return Verb.MOVE
        if before == 0:
            return Verb.START
        if after == 0:
            return Verb.SUSPEND
        return Verb.GROW if after > before else Verb.SHRINK

    def _reason(self, row: int, verb: Verb) -> Reason:
        why, gave = self._why.get(row, UNEXPLAINED), self._gave.get(row)
        if verb == Verb.MOVE and gave is not None and gave != why:
            return Reason("{}; starts again elsewhere", (gave,))
        return why

    def _awaited(self, row: int, added: tuple[Slot, ...]) -> tuple[int, ...]:
        if not self._freed_on:
            return ()
        awaited: set[int] = set()
        for slot in added:
            awaited |= self._freed_on.get(slot.node, set())
        awaited.discard(row)
        return tuple(sorted(awaited))


def remove_last(held: list[Slot], slot: Slot) -> None:
    """Removes the latest of equal slots: the first `minimum` of a job's slots are its minimum, later ones surplus."""
    del held[len(held) - 1 - held[::-1].index(slot)]


def book(free: FloatArray, device_free: FloatArray, request: FloatArray, slots: Sequence[Slot], sign: int) -> None:
    """Adds (`sign` +1) or takes (-1) one replica's request for each slot on its node, GPUs device by device."""
    change = sign * request
    if len(slots) < 8:
        for slot in slots:
            free[slot.node] += change
    else:
        np.add.at(free, [slot.node for slot in slots], change)
    if request[GPU] > 0:
        part = sign * min(float(request[GPU]), 1.0)
        for slot in slots:
            _book_devices(free, device_free, slot, part)


def _book_devices(free: FloatArray, device_free: FloatArray, slot: Slot, part: float) -> None:
    devices = device_free[slot.node]
    for device in bits(slot.devices):
        left = devices[device] + part
        whole = round(left)
        # Shares of a device add up to a whole one again, whatever the order in which they came and went.
        devices[device] = whole if abs(left - whole) < SLACK else left
    free[slot.node, GPU] = np.maximum(devices, 0.0).sum()


def bits(devices: int) -> list[int]:
    """The devices that a slot names."""
    return [device for device in range(devices.bit_length()) if devices >> device & 1]


def _difference(after: list[Slot], before: tuple[Slot, ...]) -> tuple[tuple[Slot, ...], tuple[Slot, ...]]:
    """Slots that are new, and slots that are gone, as multisets."""
    if not before or not after:
        return tuple(after), before
    if after[: len(before)] == list(before):
        return tuple(after[len(before) :]), ()
    if len(before) < 64:
        removed = list(before)
        added = []
        for slot in after:
            if slot in removed:
                removed.remove(slot)
            else:
                added.append(slot)
        return tuple(added), tuple(removed)
    had, has = Counter(before), Counter(after)
    return tuple((has - had).elements()), tuple((had - has).elements())
