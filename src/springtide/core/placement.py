"""Where a replica goes: what fits, and of that what leaves the most useful rest."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from springtide.core import wishes
from springtide.core.draft import Draft, bits
from springtide.core.resources import GPU, SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import Slot

OPENING = 0.3  # GPUs of waste that one would rather have than begin an untouched node, which could still hold anything
ROOMY = 0.0125  # per free GPU of a node: where much is left, more can still come that fits well
_EQUAL = 1e-6  # GPUs: nodes whose waste grows alike are equally good


def allowed(draft: Draft, row: int) -> BoolArray:
    """(N,) living nodes whose labels meet the job's wishes."""
    required = draft.snapshot.shapes.wishes[draft.jobs.shape[row]]
    if not required:
        return draft.nodes.alive
    met = [all(labels.get(key) in values for key, values in required.items()) for labels in draft.nodes.labels]
    found: BoolArray = np.array(met)[draft.nodes.group] & draft.nodes.alive
    return found


def room(free: FloatArray, device_free: FloatArray, request: FloatArray) -> FloatArray:
    """(N,) how many replicas of `request` each node could take."""
    asked = request > 0
    asked[GPU] = False
    fits = np.full(len(free), np.inf)
    if asked.any():
        fits = np.floor(np.min(free[:, asked] / request[asked], axis=1) * (1 + SLACK) + SLACK)
    gpu = request[GPU]
    if gpu >= 1:
        fits = np.minimum(fits, (device_free >= 1 - SLACK).sum(axis=1) // gpu)
    elif gpu > 0:
        fits = np.minimum(fits, np.floor(np.clip(device_free, 0, None) / gpu + SLACK).sum(axis=1))
    return fits


def devices(device_free: FloatArray, gpu: float) -> int:
    """Bits of the devices that a replica takes of (D,) `device_free`: the first whole ones, or the tightest share."""
    if gpu <= 0:
        return 0
    if gpu < 1:
        fits = np.flatnonzero(device_free >= gpu - SLACK)
        return 1 << int(fits[np.argmin(device_free[fits])])
    whole = np.flatnonzero(device_free >= 1 - SLACK)[: int(gpu)]
    return int(sum(1 << int(device) for device in whole))


def choose(draft: Draft, row: int, count: int, most: FloatArray | None = None) -> list[Slot]:
    """Slots in free room for up to `count` more replicas, at most `most[n]` on node n: fewer when fewer fit."""
    request = draft.request(row)
    fits = np.where(allowed(draft, row), room(draft.free, draft.device_free, request), 0)
    if most is not None:
        fits = np.minimum(fits, most)
    if not fits.any():
        return []
    if count == 1 and draft.snapshot.shapes.mix.mixed:
        return [_least_stranding(draft, row, wishes.first(draft, row, np.flatnonzero(fits > 0)))]
    finite = np.where(np.isfinite(draft.nodes.capacity) & (draft.nodes.capacity > 0), draft.nodes.capacity, np.inf)
    rest = np.where(np.isfinite(finite), draft.free - request, 0.0) / finite
    left = np.where(fits > 0, rest[:, request > 0].sum(axis=1), np.inf)
    if wishes.any_of(draft, row):
        return settle(wishes.places(draft, row, fits, left, count), request, draft.device_free)
    nodes: list[int] = []
    for node in np.argsort(left, kind="stable").tolist():
        if fits[node] <= 0 or len(nodes) == count:
            break
        nodes += [node] * int(min(fits[node], count - len(nodes)))
    return settle(nodes, request, draft.device_free)


def settle(nodes: Iterable[int], request: FloatArray, device_free: FloatArray) -> list[Slot]:
    """A slot on each of these nodes, one after the other, with devices of what is free there."""
    gpu = float(request[GPU])
    if gpu <= 0:
        return [Slot(node) for node in nodes]
    left: dict[int, FloatArray] = {}
    slots = []
    for node in nodes:
        free = left.setdefault(node, device_free[node].copy())
        chosen = devices(free, gpu)
        free[bits(chosen)] -= min(gpu, 1.0)
        slots.append(Slot(node, chosen))
    return slots


def _least_stranding(draft: Draft, row: int, nodes: IntArray) -> Slot:
    """The slot on one of `nodes` by which least is stranded; of equally good nodes the first."""
    snapshot, request = draft.snapshot, draft.request(row)
    shape = int(draft.jobs.shape[row])
    cost, share = snapshot.shapes.mix.gradient.cost(
        shape, request, nodes, draft.free, draft.device_free, draft.nodes.group
    )
    opened = (draft.free[nodes] >= draft.nodes.capacity[nodes]).all(axis=1)
    cost = cost + OPENING * opened - ROOMY * (draft.free[nodes, GPU] - request[GPU])
    at = int(np.argmax(cost <= cost.min() + _EQUAL))
    node, free = int(nodes[at]), draft.device_free[nodes[at]]
    if 0 < request[GPU] < 1:
        return Slot(node, 1 << int(np.argmin(np.abs(free - share[at]))))
    return Slot(node, devices(free, float(request[GPU])))
