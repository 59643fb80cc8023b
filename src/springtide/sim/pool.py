"""The pool of a play: `--nodes` in words, and what no node of it could ever hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from springtide.core import resources
from springtide.core.cluster import make_nodes
from springtide.core.placement import room
from springtide.core.resources import FloatArray
from springtide.core.snapshot import Nodes
from springtide.sim.trace import Task
from springtide.spec import node_spec
from springtide.spec.errors import UserError
from springtide.spec.quantities import bytes_text


def nodes(text: str, where: str = "--nodes") -> Nodes:
    """Nodes from `16x4gpu` or `8x1cpu,2Gi`, several kinds joined by `+`. Raises UserError."""
    return make_nodes(np.array([each.vector() for each in node_spec.resources(text, where)]))


def largest(pool: Nodes) -> str:
    """The largest node in words, for those who ask for more."""
    finite = np.where(np.isfinite(pool.capacity), pool.capacity, 0.0)
    scale = finite.max(axis=0)
    best = int(np.argmax((finite / np.where(scale > 0, scale, 1.0)).sum(axis=1)))
    return f"{pool.names[best]} with {described(pool.capacity[best])}"


def described(amount: FloatArray) -> str:
    """A request or a capacity in words: `4 gpu, 2 GB memory`."""
    words = [
        f"{value:g} {kind}" if kind in ("cpu", "gpu") else f"{bytes_text(value)}{'/s' if at > 2 else ''} {kind}"
        for at, (kind, value) in enumerate(zip(resources.KINDS, amount, strict=True))
        if value > 0 and math.isfinite(value)
    ]
    return ", ".join(words) or "nothing limited"


def check_fits(pool: Nodes, tasks: Sequence[Task], where: str) -> None:
    """Raises UserError for the first task that the empty pool could never hold."""
    if not len(pool.names):
        raise UserError(f"{where}: the pool has no nodes")
    devices = np.where(np.arange(int(pool.device_count.max(initial=0))) < pool.device_count[:, None], 1.0, -np.inf)
    fits: dict[tuple[object, ...], float] = {}
    for task in tasks:
        key = (task.request.tobytes(), tuple(sorted(task.wishes.items())))
        if key not in fits:
            met = [all(labels.get(k) in v for k, v in task.wishes.items()) for labels in pool.labels]
            may = np.array(met)[pool.group]
            fits[key] = float(room(pool.capacity, devices, task.request)[may].sum())
        most = fits[key]
        if most < 1:
            raise UserError(
                f"{task.place or where}: {task.name} asks for {described(task.request)} a replica, and no node could "
                f"ever hold it; the largest is {largest(pool)}"
            )
        if most < task.minimum:
            raise UserError(
                f"{task.place or where}: {task.name} needs {task.minimum} replicas of {described(task.request)}, and "
                f"the whole empty pool holds {most:g}"
            )
