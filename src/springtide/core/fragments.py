"""What will be stranded on a node: a measure of its rest against the mix of work as learnt so far.

Two parts, both in GPUs. *At the end*: idle GPU after the node was filled by random arrivals of the mix, as a mean over
`DRAWS` drawn sequences. *Now*: idle GPU that the next arrival cannot use, weighted by how often such arrivals come
(fragmentation gradient descent: Weng et al., ATC'23). The first foresees that cpu or memory will run out before the
GPUs do, or that shares will leave a rest that nobody asks for; the second keeps whole nodes for those that need them.
Placement goes where the sum grows least.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import numpy as np

from springtide.core.gradient import Gradient
from springtide.core.resources import GPU, BoolArray, FloatArray, IntArray

DRAWS = 8  # sequences of arrivals
LENGTH = 24  # arrivals in each
_EPS = 1e-6


class Mix:
    """Shapes and how often they arrive. `labels` are the groups of nodes that wishes are matched with."""

    def __init__(
        self,
        request: FloatArray,  # (S, 5)
        wishes: Sequence[Mapping[str, tuple[str, ...]]],
        seen: FloatArray,  # (S,) arrivals
        labels: Sequence[Mapping[str, str]],
    ) -> None:
        self.arrivals = float(seen.sum())
        self._weight = seen / max(float(seen.sum()), 1.0)
        asked = [kind for kind in range(request.shape[1]) if kind != GPU and (request[:, kind] > 0).any()]
        self._kinds = np.array(asked, dtype=np.int64)
        self._rest = request[:, self._kinds]
        self._part = np.minimum(request[:, GPU], 1.0)  # of each device
        self._devices = np.ceil(request[:, GPU] - _EPS).astype(np.int64)  # how many
        self._parts, self._which = np.unique(self._part, return_inverse=True)
        self._tiny = _EPS * (1 + self._rest)
        popular = self._weight * (self._part > 0)
        self._popular = popular / max(float(popular.sum()), _EPS)
        self._meets = np.array([[_meet(group, wish) for wish in wishes] for group in labels], dtype=bool)

    @cached_property
    def gradient(self) -> Gradient:
        """How much more is stranded by one more replica."""
        return Gradient(self.stranded)

    @cached_property
    def mixed(self) -> bool:
        """Whether arrivals that ask for GPUs differ at all; where they do not, any fit is as good."""
        return int(((self._weight > 0) & (self._part > 0)).sum()) > 1

    @cached_property
    def _draws(self) -> IntArray:
        """(LENGTH, DRAWS) shapes; at each place the draws are spread evenly over the mix, so that few are enough."""
        random = np.random.default_rng(7)
        spread = np.array([random.permutation(DRAWS) for _ in range(LENGTH)])
        at = (spread + random.random((LENGTH, 1))) / DRAWS
        ends = np.cumsum(self._weight)
        found: IntArray = np.minimum(np.searchsorted(ends, at * ends[-1]), len(ends) - 1)
        return found

    def stranded(self, free: FloatArray, devices: FloatArray, group: IntArray) -> FloatArray:
        """(M,) of nodes with (M, 5) `free`, (M, D) `devices` free in ascending order, (M,) `group` of labels."""
        rest = free[:, self._kinds]
        return self._at_the_end(rest, devices, group) + self._now(rest, devices, group)

    def _at_the_end(self, rest: FloatArray, devices: FloatArray, group: IntArray) -> FloatArray:
        left: FloatArray = devices.sum(axis=1)
        state, shapes = self._steps(self._could(rest, devices, group))
        if not len(state):
            return left
        # One row per node and sequence to which anything could come; arrivals are played one after the other.
        rest, free = rest[state], devices[state].astype(np.float32)
        width = devices.shape[1]
        place = np.arange(width)
        for at in range(shapes.shape[1]):
            shape = shapes[:, at]
            active = int(np.searchsorted(-(shape >= 0).astype(np.int64), 0))
            shape, now, here = shape[:active], rest[:active], free[:active]
            part, asked = self._part[shape].astype(np.float32)[:, None], self._rest[shape]
            begin = (here < part - np.float32(1e-4)).sum(axis=1)
            fits = (now >= asked - self._tiny[shape]).all(axis=1) & (width - begin >= self._devices[shape])
            if not fits.any():
                continue
            now -= fits[:, None] * asked
            end = begin + self._devices[shape] * fits  # of those that hold it the tightest
            here -= ((place >= begin[:, None]) & (place < end[:, None])) * part
            here.sort(axis=1)
        taken = left[state] - free.sum(axis=1, dtype=np.float64)
        rest_left: FloatArray = left - np.bincount(state, weights=taken, minlength=len(left)) / DRAWS
        return rest_left

    def _steps(self, could: BoolArray) -> tuple[IntArray, IntArray]:
        """Of (M, S) which shapes could go where: the node of each row, and what may come there, -1 behind the last;
        rows to which most comes first. What does not fit at first never will, so it is left out."""
        come = could[:, self._draws].transpose(0, 2, 1).reshape(-1, LENGTH)
        counts = come.sum(axis=1)
        rows = np.argsort(-counts, kind="stable")[: int((counts > 0).sum())]
        if not len(rows):
            return rows, np.zeros((0, 0), dtype=np.int64)
        most = int(counts[rows[0]])
        order = np.argsort(~come[rows], axis=1, kind="stable")[:, :most]
        shapes = np.take_along_axis(self._draws.T[rows % DRAWS], order, axis=1)
        return rows // DRAWS, np.where(np.arange(most) < counts[rows, None], shapes, -1)

    def _could(self, rest: FloatArray, devices: FloatArray, group: IntArray) -> BoolArray:
        """(M, S) whether one replica of each shape fits now."""
        holding = (devices[:, None] >= self._parts[:, None] - 1e-4).sum(axis=2)
        fits: BoolArray = self._meets[group] & (holding[:, self._which] >= self._devices)
        for kind in range(rest.shape[1]):
            fits &= rest[:, kind, None] >= self._rest[:, kind] - self._tiny[:, kind]
        return fits

    def _now(self, rest: FloatArray, devices: FloatArray, group: IntArray) -> FloatArray:
        holds = devices[:, None] >= self._parts[:, None] - 1e-4
        usable = (holds * devices[:, None]).sum(axis=2)[:, self._which]
        idle: FloatArray = devices.sum(axis=1) - (self._could(rest, devices, group) * usable) @ self._popular
        return idle


def _meet(labels: Mapping[str, str], wishes: Mapping[str, tuple[str, ...]]) -> bool:
    return all(labels.get(key) in values for key, values in wishes.items())


def meeting(labels: Sequence[Mapping[str, str]], wishes: Mapping[str, tuple[str, ...]]) -> BoolArray:
    """(G,) which sets of labels meet the wishes."""
    return np.array([_meet(each, wishes) for each in labels], dtype=bool)
