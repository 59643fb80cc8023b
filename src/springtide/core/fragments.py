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

from springtide.core.filling_up import Sequences
from springtide.core.gradient import Gradient
from springtide.core.resources import GPU, BoolArray, FloatArray, IntArray

DRAWS = 32  # sequences of arrivals; with a few, which node is best depends on which were drawn
LENGTH = 24  # arrivals in each
_EPS = 1e-6
_SHARE = 1e-4  # of a device; shares of thousandths are told apart


class Mix:
    """Shapes and how often they arrive. `labels` are the groups of nodes that wishes are matched with.

    What no node could hold, however empty (`held`), takes no part: it must not change where others go.
    """

    def __init__(
        self,
        request: FloatArray,  # (S, 5)
        wishes: Sequence[Mapping[str, tuple[str, ...]]],
        seen: FloatArray,  # (S,) arrivals
        labels: Sequence[Mapping[str, str]],
        held: BoolArray,  # (S,)
    ) -> None:
        self.arrivals = float(seen.sum())
        coming = np.where(held, seen, 0.0)
        self._weight = coming / max(float(coming.sum()), 1.0)
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

    @cached_property
    def _sequences(self) -> Sequences:
        return Sequences(self._rest, self._part, self._devices, self._meets, self._draws.T)

    def stranded(self, free: FloatArray, devices: FloatArray, group: IntArray) -> FloatArray:
        """(M,) of nodes with (M, 5) `free`, (M, D) `devices` free in ascending order, (M,) `group` of labels."""
        rest = free[:, self._kinds]
        holds = devices[:, None] >= self._parts[:, None] - _SHARE
        could = self._could(rest, holds.sum(axis=2), group)
        usable = (holds * devices[:, None]).sum(axis=2)[:, self._which]
        idle: FloatArray = devices.sum(axis=1)
        left = self._sequences.left(rest, devices, group)
        found: FloatArray = idle - (could * usable) @ self._popular + left
        return found

    def _could(self, rest: FloatArray, holding: IntArray, group: IntArray) -> BoolArray:
        """(M, S) whether one replica of each shape fits now; (M, P) devices hold each size of a part."""
        fits: BoolArray = self._meets[group] & (holding[:, self._which] >= self._devices)
        for kind in range(rest.shape[1]):
            fits &= rest[:, kind, None] >= self._rest[:, kind] - self._tiny[:, kind]
        return fits


def _meet(labels: Mapping[str, str], wishes: Mapping[str, tuple[str, ...]]) -> bool:
    return all(labels.get(key) in values for key, values in wishes.items())


def meeting(labels: Sequence[Mapping[str, str]], wishes: Mapping[str, tuple[str, ...]]) -> BoolArray:
    """(G,) which sets of labels meet the wishes."""
    return np.array([_meet(each, wishes) for each in labels], dtype=bool)
