"""The pool of a play: `--nodes` in words, and what no node of it could ever hold."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from springtide.core import resources
from springtide.core.cluster import make_nodes
from springtide.core.placement import room
from springtide.core.resources import GPU, MOST_DEVICES, FloatArray
from springtide.core.snapshot import Nodes
from springtide.sim.trace import Task
from springtide.spec import amounts
from springtide.spec.errors import UserError
from springtide.spec.quantities import bytes_text

_GROUP = re.compile(r"(\d+)\s*x\s*(.+)")
_COUNTED = re.compile(r"([0-9.]+m?)\s*(cpu|cores?|gpus?)", re.IGNORECASE)
_NAMED = re.compile(r"(memory|disk|network):(.+)", re.IGNORECASE)
_MOST_NODES = 1_000_000
_EXAMPLE = "write 16x4gpu, 8x1cpu,2Gi or 105x16cpu,64Gi+27x24cpu,96Gi"


def nodes(text: str, where: str = "--nodes") -> Nodes:
    """Nodes from `16x4gpu` or `8x1cpu,2Gi`, several kinds joined by `+`. What is not named is unlimited, but GPUs.

    GPUs are devices that can be counted: a kind that names none has none. Raises UserError.
    """
    rows: list[FloatArray] = []
    for group in text.split("+"):
        match = _GROUP.fullmatch(group.strip())
        if not match or not 0 < int(match[1]) <= _MOST_NODES:
            raise UserError(f'{where}: "{group.strip()}" is no number of nodes; {_EXAMPLE}')
        rows += [_capacity(match[2], where)] * int(match[1])
    return make_nodes(np.array(rows))


def _capacity(text: str, where: str) -> FloatArray:
    capacity = np.full(resources.COUNT, math.inf)
    capacity[GPU] = 0.0
    for part in filter(None, (part.strip() for part in text.split(","))):
        kind, value = _amount(part, where)
        capacity[resources.KINDS.index(kind)] = value
    if capacity[GPU] > MOST_DEVICES:
        raise UserError(f"{where}: a node of {capacity[GPU]:g} GPUs is too large; the most is {MOST_DEVICES}")
    return capacity


def _amount(part: str, where: str) -> tuple[str, float]:
    if match := _COUNTED.fullmatch(part):
        kind = match[2].lower()
        if kind.startswith("gpu"):
            return "gpu", amounts.count("GPUs of a node", 4, least=0)(match[1], where)
        return "cpu", amounts.cores(match[1], where)
    if match := _NAMED.fullmatch(part):
        kind = match[1].lower()
        return kind, (amounts.memory if kind == "memory" else amounts.rate)(match[2], where)
    if re.fullmatch(r"[0-9.]+\s*[kKmMgGtT]i?[bB]?", part):
        return "memory", amounts.memory(part, where)
    raise UserError(f'{where}: "{part}" is no amount of cpu, memory or gpu; {_EXAMPLE}')


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
