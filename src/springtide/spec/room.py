"""Whether any node could ever hold a replica, were it empty; and if not, what the largest one has."""

from __future__ import annotations

import math
from collections.abc import Iterable

from springtide.spec import amounts
from springtide.spec.job import Job, Placement
from springtide.spec.resources import RESOURCES, Resources
from springtide.spec.sharing import Node


def amount_text(resource: str, value: float) -> str:
    """`16 cpu`, `64Gi of memory`, `200MB/s of network`."""
    if math.isinf(value):
        return f"any {resource}"
    match resource:
        case "memory":
            return f"{amounts.memory_text(value)} of memory"
        case "disk" | "network":
            return f"{amounts.rate_text(value)} of {resource}"
    return f"{amounts.number_text(value)} {resource}"


class Room:
    """The kinds of nodes of a pool: thousands of nodes are often a handful of kinds."""

    def __init__(self, nodes: Iterable[Node]):
        self._nodes = list(nodes)
        kinds = {(node.resources, node.gpu_model, tuple(sorted(node.labels.items()))): node for node in self._nodes}
        self._kinds = list(kinds.values())

    def lacking(self, job: Job) -> tuple[str, str] | None:
        """Why no node could ever hold one replica of the job (field and sentence); None where one could."""
        if not self._nodes:
            return "resources", "the pool has no node; add one under nodes"
        # The name of a node is a label too, and the only one that nodes of one kind do not share.
        nodes = self._nodes if "node" in job.placement.require else self._kinds
        allowed = [node for node in nodes if _allowed(job.placement, node)]
        if not allowed:
            return "placement", self._unlabelled(job.placement)
        if any(not _short(job.resources, node.resources) for node in allowed):
            return None
        largest = min(allowed, key=lambda node: _worst(job.resources, node.resources))
        short = _short(job.resources, largest.resources)
        wants = ", ".join(amount_text(one, getattr(job.resources, one)) for one in short)
        has = ", ".join(amount_text(one, getattr(largest.resources, one)) for one in short)
        where = " that it may run on" if job.placement.require else ""
        return "resources", f"no node{where} could ever hold {wants}; the largest, {largest.name}, has {has}"

    def _unlabelled(self, placement: Placement) -> str:
        wishes = " and ".join(f"{key} {' or '.join(values)}" for key, values in placement.require.items())
        there = {
            f"{key} {value}"
            for node in self._nodes
            for key, value in node.all_labels().items()
            if key in placement.require
        }
        some = sorted(there)[:8]
        return f"no node has {wishes}; {'there is ' + ', '.join(some) if some else 'none has any such label'}"


def _allowed(placement: Placement, node: Node) -> bool:
    labels = node.all_labels()
    return all(labels.get(key) in values for key, values in placement.require.items())


def _short(wanted: Resources, has: Resources) -> list[str]:
    return [one for one in RESOURCES if getattr(wanted, one) > getattr(has, one)]


def _worst(wanted: Resources, has: Resources) -> float:
    """How many times too small the node is, where it is smallest."""
    return max(_times(getattr(wanted, one), getattr(has, one)) for one in RESOURCES)


def _times(wanted: float, has: float) -> float:
    return wanted / has if has else (math.inf if wanted else 0.0)
