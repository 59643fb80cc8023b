"""How others place a pod that has arrived: random fit, best fit and fragmentation gradient descent.

All three as in the artifact of Weng et al. (ATC'23): scores are whole numbers of 0 to 100, and of equal ones the node
that comes first in the list is taken.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable

import numpy as np

from springtide.core import Plan, Snapshot, placement
from springtide.core.draft import Draft
from springtide.core.fragments import meeting
from springtide.core.gradient import Gradient
from springtide.core.reasons import Reason
from springtide.core.resources import CPU, GPU, FloatArray, IntArray
from springtide.core.snapshot import GONE, Slot
from springtide.sim.trace import Trace

LARGEST_CPU, LARGEST_GPU = 128.0, 8.0  # of a node, by which the artifact's best fit divides
POPULAR = 0.95  # of the pods, by the most frequent shapes: the typical pods
_FITS = Reason("its best score")


class Placer(ABC):
    """Places each waiting job of one replica where it scores best; nothing that runs is touched."""

    name = ""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def plan(self, snapshot: Snapshot) -> Plan:
        """One pass."""
        draft = Draft(snapshot)
        for row in np.flatnonzero((snapshot.jobs.kind != GONE) & (snapshot.jobs.running == 0)).tolist():
            request = draft.request(row)
            fits = placement.allowed(draft, row) & (placement.room(draft.free, draft.device_free, request) > 0)
            nodes = np.flatnonzero(fits)
            if len(nodes):
                draft.take(row, [self.slot(draft, row, nodes)], _FITS)
        return draft.plan()

    @abstractmethod
    def slot(self, draft: Draft, row: int, nodes: IntArray) -> Slot:
        """The best of the nodes on which it fits."""


class RandomFit(Placer):
    """Any node on which it fits, any device."""

    name = "random"

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self._random = np.random.default_rng(0)

    def slot(self, draft: Draft, row: int, nodes: IntArray) -> Slot:
        node = int(self._random.choice(nodes))
        gpu, free = float(draft.request(row)[GPU]), draft.device_free[node]
        if 0 < gpu < 1:
            return Slot(node, 1 << int(self._random.choice(np.flatnonzero(free >= gpu - 1e-9))))
        return Slot(node, placement.devices(free, gpu))


class BestFit(Placer):
    """The node with least cpu and GPUs left."""

    name = "best-fit"

    def slot(self, draft: Draft, row: int, nodes: IntArray) -> Slot:
        left = draft.free[nodes] - draft.request(row)
        score = np.floor(100 * (1 - 0.5 * left[:, CPU] / LARGEST_CPU - 0.5 * left[:, GPU] / LARGEST_GPU) + 1e-9)
        span = max(float(score.max() - score.min()), 1.0)
        node = int(nodes[np.argmax(np.floor(100 * (score - score.min()) / span))])
        return Slot(node, placement.devices(draft.device_free[node], float(draft.request(row)[GPU])))


class Fgd(Placer):
    """The node and device where idle GPU that a typical pod cannot use grows least; the pods are known beforehand."""

    name = "fgd"

    def __init__(self, trace: Trace) -> None:
        super().__init__(trace)
        self._gradient = Gradient(typical(trace))

    def slot(self, draft: Draft, row: int, nodes: IntArray) -> Slot:
        request, shape = draft.request(row), int(draft.jobs.shape[row])
        group = draft.nodes.group
        grown, _ = self._gradient.cost(shape, request, nodes, draft.free, draft.device_free, group)
        node = int(nodes[np.argmax(_score(grown))])
        free = draft.device_free[node]
        if 0 < request[GPU] < 1:
            each = self._gradient.by_device(request, draft.free[node], free, int(group[node]))
            return Slot(node, 1 << int(np.argmax(_score(each))))
        return Slot(node, placement.devices(free, float(request[GPU])))


def _score(grown: FloatArray) -> FloatArray:
    score: FloatArray = np.floor(100 / (1 + np.exp(np.minimum(grown, 99.0))) + 1e-9)
    return score


def typical(trace: Trace) -> Callable[[FloatArray, FloatArray, IntArray], FloatArray]:
    """Idle GPU that a typical pod cannot use; memory does not count."""
    counted: Counter[tuple[float, float, tuple[str, ...]]] = Counter()
    for task in trace.tasks:
        models = next(iter(task.wishes.values()), ())
        counted[float(task.request[CPU]), float(task.request[GPU]), models] += 1
    frequent = counted.most_common()
    ends = np.cumsum([count for _, count in frequent])
    frequent = frequent[: int(np.searchsorted(ends, POPULAR * ends[-1])) + 1]
    cpu, gpu = (np.array([pod[at] for pod, _ in frequent]) for at in (0, 1))
    weight = np.array([count for _, count in frequent], dtype=np.float64)
    weight /= weight.sum()
    key = next((key for task in trace.tasks for key in task.wishes), "")
    meets = np.array([meeting(trace.nodes.labels, {key: pod[2]} if pod[2] else {}) for pod, _ in frequent]).T
    parts, which = np.unique(np.minimum(gpu, 1.0), return_inverse=True)
    count = np.ceil(gpu - 1e-6)

    def fragments(free: FloatArray, devices: FloatArray, group: IntArray) -> FloatArray:
        holds = devices[:, None] >= parts[:, None] - 1e-6
        usable = (holds * devices[:, None]).sum(axis=2)[:, which]
        fits = (holds.sum(axis=2)[:, which] >= count) & (free[:, CPU, None] >= cpu - 1e-6) & meets[group]
        lost: FloatArray = devices.sum(axis=1) - (fits & (gpu > 0)) * usable @ weight
        return lost

    return fragments
