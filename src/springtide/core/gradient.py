"""How much worse each node becomes by one more replica, by any measure of a node's state; what was measured is kept.

A measure says of a node's rest how many GPUs of it are waste. Placement goes where it grows least. States recur (empty
nodes are alike, and a pass changes few of them), so a state is measured once, and a shape's column of costs is brought
up to date where a node has changed since. What is kept changes no answer: it is found by content.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from springtide.core.resources import GPU, SLACK, FloatArray, IntArray

_COLUMNS = 512  # shapes whose costs are kept
_STATES = 1_000_000  # states whose measure is kept
_WEIGHTS = (np.random.default_rng(2).integers(1, 2**62, 80, dtype=np.int64) * 2 + 1).astype(np.uint64)


class Measure(Protocol):
    """Waste of node states, in GPUs."""

    def __call__(self, free: FloatArray, devices: FloatArray, group: IntArray, /) -> FloatArray:
        """(M,) from (M, 5) free amounts, (M, D) free shares of devices in ascending order, and (M,) label groups."""


class Gradient:
    """The growth of a measure on every node, per shape."""

    def __init__(self, measure: Measure) -> None:
        self._measure = measure
        self._known: dict[int, float] = {}
        self._columns: dict[int, tuple[NDArray[np.uint64], FloatArray, FloatArray]] = {}

    def cost(
        self,
        shape: int,
        request: FloatArray,
        fits: IntArray,
        free: FloatArray,
        device_free: FloatArray,
        group: IntArray,
    ) -> tuple[FloatArray, FloatArray]:
        """(F,) growth on the nodes `fits` (F,), which can take the request, and (F,) what is free of the best device.

        The second is for shares of a device only.
        """
        marks = _marks(free[fits], device_free[fits], group[fits])
        if shape not in self._columns:
            if len(self._columns) >= _COLUMNS:
                self._columns.clear()
            self._columns[shape] = (np.zeros(len(free), np.uint64), np.zeros(len(free)), np.zeros(len(free)))
        seen, cost, device = self._columns[shape]
        changed = np.flatnonzero(seen[fits] != marks)
        if len(changed):
            # Equal states are looked at once.
            stale = fits[changed]
            _, first, back = np.unique(marks[changed], return_index=True, return_inverse=True)
            some = stale[first]
            grown, best = self._grown(request, free[some], np.sort(np.clip(device_free[some], 0, None)), group[some])
            cost[stale], device[stale] = grown[back], best[back]
            seen[stale] = marks[changed]
        return cost[fits], device[fits]

    def by_device(self, request: FloatArray, free: FloatArray, devices: FloatArray, group: int) -> FloatArray:
        """(D,) growth on one node with (5,) `free` by the device that gets the share; inf where it does not fit."""
        fits = np.flatnonzero(devices >= request[GPU] - SLACK)
        after = np.repeat(np.clip(devices, 0, None)[None], len(fits) + 1, axis=0)
        after[np.arange(len(fits)), fits] -= request[GPU]
        rest = np.repeat((free - request)[None], len(fits) + 1, axis=0)
        rest[-1] = free
        measured = self._measured(rest, np.sort(after), np.full(len(rest), group))
        grown = np.full(len(devices), np.inf)
        grown[fits] = measured[:-1] - measured[-1]
        return grown

    def _grown(
        self, request: FloatArray, free: FloatArray, devices: FloatArray, group: IntArray
    ) -> tuple[FloatArray, FloatArray]:
        count, gpu = len(free), float(request[GPU])
        before = self._measured(free, devices, group)
        if not 0 < gpu < 1:
            after = devices
            if gpu >= 1:
                whole = devices >= 1 - SLACK  # the last ones, where they are in ascending order
                rank = np.cumsum(whole, axis=1)
                after = np.sort(np.where(whole & (rank <= gpu), 0.0, devices))
            return self._measured(free - request, after, group) - before, np.ones(count)
        differs = np.diff(devices, axis=1, prepend=-1.0) > SLACK  # of equal devices one is tried
        node, place = np.nonzero((devices >= gpu - SLACK) & differs)
        after = devices[node]
        after[np.arange(len(node)), place] -= gpu
        value = self._measured(free[node] - request, np.sort(after), group[node])
        grown = np.full(count, np.inf)
        np.minimum.at(grown, node, value)
        # Of devices equally good, the tightest.
        best = np.full(count, np.inf)
        good = value <= grown[node] + SLACK
        np.minimum.at(best, node[good], devices[node[good], place[good]])
        return grown - before, best

    def _measured(self, free: FloatArray, devices: FloatArray, group: IntArray) -> FloatArray:
        marks = _marks(free, devices, group)
        known = self._known
        keys = marks.tolist()
        new = {key: at for at, key in enumerate(keys) if key not in known}
        if new:
            if len(known) > _STATES:
                known.clear()
                new = {key: at for at, key in enumerate(keys)}
            at = np.fromiter(new.values(), dtype=np.int64, count=len(new))
            known.update(zip(new, self._measure(free[at], devices[at], group[at]).tolist(), strict=True))
        return np.array([known[key] for key in keys])


def _marks(free: FloatArray, devices: FloatArray, group: IntArray) -> NDArray[np.uint64]:
    """(M,) a number per state; two states that differ share one with the probability of 2**-64."""
    width = devices.shape[1]
    mixed: NDArray[np.uint64] = _mixed(free) @ _WEIGHTS[:5]
    mixed += _mixed(devices) @ _WEIGHTS[5 : 5 + width]
    mixed += group.astype(np.uint64) * _WEIGHTS[70] + np.uint64(1)
    return mixed


def _mixed(values: FloatArray) -> NDArray[np.uint64]:
    # Sums of requests differ in the last bits by the order in which they came; nothing hangs on those.
    bits = np.ascontiguousarray(np.round(values, 6) + 0.0).view(np.uint64)
    mixed: NDArray[np.uint64] = bits ^ (bits >> np.uint64(29))
    return mixed
