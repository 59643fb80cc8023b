"""Whom a job meets on its nodes, where the two lean on different resources: told, since it was why they were paired."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

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
        if 0 < (has := getattr(node, name)) and math.isfinite(has)
    }
    most = max(shares, key=lambda name: shares[name], default=None)
    return most if most is not None and shares[most] >= _LEANS else None


def paired(record: JobRecord, others: Iterable[JobRecord], nodes: Mapping[str, Node]) -> str:
    """`beside sort, which leans on the disk`: the first neighbour that complements the job; empty for none."""
    mine = {one.node for one in record.replicas if one.step != Step.STOPPING and one.node in nodes}
    for other in others:
        if other.id == record.id:
            continue
        for one in other.replicas:
            if one.node not in mine or one.step == Step.STOPPING:
                continue
            has = nodes[one.node].resources
            here, there = leans_on(record.job.resources, has), leans_on(other.job.resources, has)
            if here and there and here != there:
                return f"beside {other.name}, which leans on {_WORDS[there]} where it leans on {_WORDS[here]}"
    return ""
