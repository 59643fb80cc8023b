"""Why a job waits, in one sentence with its numbers."""

from __future__ import annotations

import numpy as np
import pytest

from springtide.core import Cluster, plan
from springtide.core.cluster import make_nodes
from springtide.core.resources import FloatArray, vector
from springtide.core.snapshot import BATCH, Teams

INF = np.inf


def a_pool(*nodes: FloatArray, guarantee: float = 0.0, borrow: float = INF) -> Cluster:
    limits = np.full((1, 5), INF)
    limits[0, 2] = borrow
    teams = Teams(
        ["vision"], np.array([-1]), np.array([vector(gpu=guarantee)]), limits, np.ones(1), np.full(1, INF), np.zeros(1)
    )
    return Cluster(make_nodes(np.array(nodes), ["a", "b", "c"][: len(nodes)]), teams)


def said(cluster: Cluster, request: FloatArray, minimum: int = 1, **columns: object) -> str:
    """What is said of one that waits behind a job that holds half of node `a`."""
    first = cluster.add("runs", kind=BATCH, request=vector(cpu=2, gpu=2), priority=2)
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    assert cluster.held[first]
    row = cluster.add("waits", kind=BATCH, request=request, minimum=minimum, **columns)  # type: ignore[arg-type]
    return str(plan(cluster.snapshot(1.0)).waits[row])


def test_who_waits_for_room_is_told_what_is_free_and_who_is_first() -> None:
    sentence = said(a_pool(vector(cpu=8, gpu=4)), vector(cpu=1, gpu=4))
    assert sentence == "waits for 4 gpu: team vision uses 2; 2 are free, first in line is waits (experiment)"


def test_who_waits_at_a_limit_is_told_the_limit() -> None:
    sentence = said(a_pool(vector(cpu=8, gpu=8), guarantee=2.0, borrow=1.0), vector(cpu=1, gpu=4))
    assert sentence == (
        "waits for 4 gpu: team vision uses 2 of its 2 guaranteed and may borrow 1; 6 are free, "
        "first in line is waits (experiment)"
    )


@pytest.mark.parametrize(
    ("request_", "minimum", "sentence"),
    [
        (vector(cpu=1, gpu=8), 1, "waits for 8 gpu on one node: the largest, a, has 4"),
        (vector(cpu=16), 1, "waits for 16 cpu on one node: the largest, a, has 8"),
        (vector(cpu=5), 3, "waits for 3 replicas: an empty pool holds 2"),
    ],
)
def test_who_never_fits_is_told_what_there_is(request_: FloatArray, minimum: int, sentence: str) -> None:
    assert said(a_pool(vector(cpu=8, gpu=4), vector(cpu=6)), request_, minimum) == sentence


def test_who_wishes_for_labels_that_no_node_has_is_told_so() -> None:
    sentence = said(a_pool(vector(cpu=8, gpu=4)), vector(cpu=1), wishes={"zone": ("moon",)})
    assert sentence == "waits for a node: none that is alive has the labels that it wishes for"


def test_all_who_ask_for_the_same_are_told_the_same() -> None:
    cluster = a_pool(vector(cpu=8, gpu=4))
    rows = [cluster.add(f"job-{n}", kind=BATCH, request=vector(cpu=8), submitted_s=float(n)) for n in range(4)]
    waits = plan(cluster.snapshot(0.0)).waits
    assert [row in waits for row in rows] == [False, True, True, True]
    assert len({str(waits[row]) for row in rows[1:]}) == 1
