"""Many replicas at once: the same capacity, minimum and device rules as one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.core import Cluster, together
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, SLACK, vector
from springtide.core.snapshot import BATCH, TRAINING

WHY = Reason("there is room")


def waiting(requests: list[dict[str, float]], counts: list[int], nodes: int = 4) -> tuple[Draft, np.ndarray]:
    cluster = Cluster(make_nodes(np.array([vector(cpu=8, memory=64, gpu=2 * (n % 2)) for n in range(nodes)])))
    rows = [
        cluster.add(f"j{k}", kind=BATCH, request=vector(**request), minimum=count)
        for k, (request, count) in enumerate(zip(requests, counts, strict=True))
    ]
    return Draft(cluster.snapshot(0.0)), np.array(rows)


JOBS = st.lists(
    st.tuples(
        st.fixed_dictionaries({"cpu": st.sampled_from([0.5, 1, 3]), "gpu": st.sampled_from([0, 0, 0.3, 0.5, 1, 2])}),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(JOBS)
def test_either_all_get_their_slots_within_every_capacity_or_nothing_changes(jobs: list) -> None:
    draft, rows = waiting([request for request, _ in jobs], [count for _, count in jobs])
    before = draft.free.copy()
    counts = draft.need[rows]
    if together.take_all(draft, rows, counts, WHY):
        assert (draft.count[rows] == counts).all()
        assert (draft.free >= -SLACK).all()
        assert (draft.device_free[np.isfinite(draft.device_free)] >= -SLACK).all()
        again = Draft(draft.snapshot)
        for action in draft.plan().actions:
            again.take(action.job, action.added, WHY)
        assert np.allclose(again.free, draft.free)
        assert np.allclose(again.free[:, GPU], draft.free[:, GPU])
    else:
        assert (draft.free == before).all()
        assert not draft.plan()


def test_a_queue_that_does_not_fit_whole_is_served_from_its_front() -> None:
    draft, rows = waiting([{"cpu": 1.0}] * 100, [1] * 100, nodes=9)
    length = together.longest_prefix(draft, rows, draft.need[rows], WHY)
    assert length == 0  # 100 cores are asked for, 72 are there: half of them is below what is worth it
    draft, rows = waiting([{"cpu": 1.0}] * 300, [1] * 300, nodes=20)
    length = together.longest_prefix(draft, rows, draft.need[rows], WHY)
    assert length == 150
    assert draft.count[rows[:150]].all() and not draft.count[rows[150:]].any()


def test_work_without_gpus_keeps_off_nodes_with_free_ones() -> None:
    draft, rows = waiting([{"cpu": 2.0}] * 4, [2] * 4)
    assert together.take_all(draft, rows, draft.need[rows], WHY)
    assert all(slot.node % 2 == 0 for row in rows for slot in draft.held(int(row)))


def test_growth_of_elastic_jobs_may_use_it_too() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=8)] * 2)))
    row = cluster.add("a", kind=TRAINING, request=vector(cpu=1), minimum=2, maximum=9)
    draft = Draft(cluster.snapshot(0.0))
    assert together.take_all(draft, np.array([row]), np.array([9]), WHY)
    assert draft.count[row] == 9
