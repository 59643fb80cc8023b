"""Whom a job meets on its nodes, where the two lean on different resources: told, since it was why they were paired."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from springtide.pool.carrying import Spot
from springtide.pool.records import JobRecord, Step
from springtide.spec.resources import RESOURCES, Resources
from springtide.spec.sharing import Node

_WORDS = {"cpu": "cores", "memory": "memory", "gpu": "GPUs", "disk": "the disk", "network": "the network"}
_LEANS = 0.25  # a job that takes less than this share of a node leans on nothing


def leans_on(asked: Resources, node: Resources) -> str | None:
    """The resource of which one replica takes the largest share of the node; None where all shares are small."""
    shares = {
        name: getattr(asked, name) / has
        for name in RESOURCES
        if (has := getattr(node, name)) > 0 and math.isfinite(has)
    }
    most = max(shares, key=lambda name: shares[name], default=None)
    return most if most is not None and shares[most] >= _LEANS else None


class Neighbours:
    """Who is where, before a plan is carried out."""

    def __init__(self, records: Iterable[JobRecord], nodes: Iterable[Node]) -> None:
        self._nodes = {node.name: node.resources for node in nodes}
        self._there: dict[str, dict[str, JobRecord]] = {}
        for record in records:
            for one in record.replicas:
                if one.step != Step.STOPPING:
                    self._there.setdefault(one.node, {})[record.id] = record

    def paired(self, record: JobRecord, added: Sequence[Spot]) -> str:
        """`beside sort, which leans on the disk ...`: the first neighbour that complements the job; empty for none.

        The job counts as a neighbour of those that are placed after it.
        """
        found = ""
        for node, _ in added:
            here = leans_on(record.job.resources, self._nodes[node])
            for other in self._there.setdefault(node, {}).values():
                there = leans_on(other.job.resources, self._nodes[node])
                if not found and here and there and here != there and other.id != record.id:
                    found = f"beside {other.name}, which leans on {_WORDS[there]} where it leans on {_WORDS[here]}"
            self._there[node][record.id] = record
        return found
