"""Nodes filled by sequences of arrivals, one arrival after the other: how much GPU nobody came for.

A handful of states is measured at a time, and most arrivals do not fit, so this is plain integer arithmetic: a node's
free amounts are one integer with a field per resource, where one subtraction shows whether all of a request fits, and
the free shares of its devices are a number that names them, with a table of what each request makes of it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np

from springtide.core.resources import BoolArray, FloatArray, IntArray

_FIELD = 48  # bits of one resource's field; the highest stays set as long as nothing was borrowed
_STEPS = 2**24  # in which the largest request of a resource is counted
_ROUNDING = 64  # steps by which many rounded requests may exceed their sum
_PARTS = 10_000  # of a device
_UNKNOWN, _NOT = -2, -1


class Sequences:
    """Sequences of shapes, (K, L), that come to a node; each is placed where its share fits tightest, or not at all."""

    def __init__(
        self, rest: FloatArray, part: FloatArray, devices: IntArray, meets: BoolArray, draws: IntArray
    ) -> None:
        """`rest` (S, R) asked beside GPUs, `part` (S,) of each of `devices` (S,); `meets` (G, S): allowed by labels."""
        kinds = rest.shape[1]
        self._step = np.maximum(rest.max(axis=0, initial=0.0), 1e-9) / _STEPS
        asked = np.ceil(rest / self._step - 1e-6).astype(np.int64).tolist()
        packed = [_packed(row) for row in asked]
        self._guard = sum(1 << (_FIELD * kind + _FIELD - 1) for kind in range(kinds))
        parts = np.round(part * _PARTS).astype(np.int64).tolist()
        sizes = list(zip(parts, devices.tolist(), strict=True))
        self._sizes = sorted(set(sizes) | {(0, 0)})
        number = {size: at for at, size in enumerate(self._sizes)}
        steps = [(packed[shape], number[sizes[shape]]) for shape in range(len(packed))]
        self._steps = [[[steps[k] for k in draw if may[k]] for draw in draws.tolist()] for may in meets.tolist()]
        self._takers = [list({step for draw in draws for step in draw if step[1]}) for draws in self._steps]
        self._states: list[tuple[int, ...]] = []  # free parts of the devices that are not full, ascending
        self._named: dict[tuple[int, ...], int] = {}
        self._after: list[list[int]] = []  # per state and size: the state that it becomes
        self._idle: list[int] = []

    def left(self, rest: FloatArray, devices: FloatArray, group: IntArray) -> FloatArray:
        """(M,) idle GPUs in the mean of the sequences, on nodes with (M, R) `rest` and (M, D) `devices` free."""
        most = float(2 ** (_FIELD - 2))
        amounts = np.minimum(np.floor(rest / self._step) + _ROUNDING, most).astype(np.int64).tolist()
        parts = np.round(devices * _PARTS).astype(np.int64).tolist()
        found = [
            self._left(_packed(amount) | self._guard, self._name(tuple(part for part in free if part > 0)), labels)
            for amount, free, labels in zip(amounts, parts, group.tolist(), strict=True)
        ]
        return np.array(found, dtype=np.float64)

    def _left(self, amount: int, state: int, group: int) -> float:
        after, guard, idle, total = self._after, self._guard, self._idle, 0
        sequences = self._steps[group]
        if not idle[state] or not self._anybody(amount, state, group):
            return idle[state] / _PARTS
        for sequence in sequences:
            free, now = amount, state
            for asked, size in sequence:
                rest = free - asked
                if rest & guard != guard:
                    continue
                if size:
                    then = after[now][size]
                    if then < 0:
                        if then == _UNKNOWN:
                            then = self._become(now, size)
                        if then < 0:
                            continue
                    now = then
                    if not idle[now]:
                        break  # whoever comes now changes nothing of what is idle
                free = rest
            total += idle[now]
        return total / (_PARTS * max(len(sequences), 1))

    def _anybody(self, amount: int, state: int, group: int) -> bool:
        """Whether any who asks for a GPU finds it here: what does not fit at first never does."""
        guard, after = self._guard, self._after[state]
        for asked, size in self._takers[group]:
            if (amount - asked) & guard == guard:
                then = after[size]
                if then == _UNKNOWN:
                    then = self._become(state, size)
                if then >= 0:
                    return True
        return False

    def _become(self, state: int, size: int) -> int:
        part, count = self._sizes[size]
        free = self._states[state]
        first = bisect_left(free, part)
        last = first + count
        then = _NOT
        if last <= len(free):
            rest = [left - part for left in free[first:last] if left > part]
            then = self._name(tuple(sorted((*free[:first], *rest, *free[last:]))))
        self._after[state][size] = then
        return then

    def _name(self, free: tuple[int, ...]) -> int:
        name = self._named.get(free)
        if name is None:
            name = self._named[free] = len(self._states)
            self._states.append(free)
            self._after.append([_UNKNOWN] * len(self._sizes))
            self._idle.append(sum(free))
        return name


def _packed(amounts: Iterable[int]) -> int:
    packed = 0
    for kind, amount in enumerate(amounts):
        packed |= amount << (_FIELD * kind)
    return packed
