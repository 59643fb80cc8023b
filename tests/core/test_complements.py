"""Jobs that use resources in turn share GPUs when more wait than fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide.core import Cluster, plan
from springtide.core.cluster import make_nodes
from springtide.core.complements import MOST, STRETCH, Walk, iteration_s, speeds, turns
from springtide.core.plan import Verb
from springtide.core.resources import GPU, vector
from springtide.core.snapshot import TRAINING

INF = np.inf
LOADS, COMPUTES, TALKS = (0.7, 0.1, 0.0), (0.0, 0.4, 0.05), (0.1, 0.1, 0.6)


def pool(nodes: int = 1, gpus: float = 4) -> Cluster:
    return Cluster(make_nodes(np.tile(vector(cpu=INF, memory=INF, gpu=gpus, disk=INF, network=INF), (nodes, 1))))


def train(cluster: Cluster, name: str, stages: tuple[float, float, float], work_s: float, gpu: float = 4) -> int:
    return cluster.add(
        name, kind=TRAINING, request=vector(gpu=gpu), remaining_s=work_s, stages=np.array([0.0, *stages])
    )


def queue(cluster: Cluster, count: int, gpu: float = 4) -> None:
    """Others that wait behind all of a test, and share with nobody."""
    for number in range(count):
        train(cluster, f"behind-{number}", (0.0, 1.0, 0.0), 1e6 + number, gpu)


def carry_out(cluster: Cluster, now_s: float = 0.0) -> None:
    cluster.apply(plan(cluster.snapshot(now_s)), now_s)


def running(cluster: Cluster) -> set[str]:
    return {name for name, row in cluster.rows.items() if cluster.held[row]}


def test_a_job_that_loads_and_one_that_computes_take_no_longer_than_the_longer() -> None:
    assert turns([LOADS, COMPUTES]) == pytest.approx(0.8)


def test_two_that_only_compute_take_turns_one_after_the_other() -> None:
    assert turns([(0.0, 0.4, 0.0), (0.0, 0.3, 0.0)]) == pytest.approx(0.7)


def test_two_loaders_overlap_because_loading_lasts_for_two_steps_of_four() -> None:
    assert turns([(0.5, 0.0, 0.0)] * 4) == pytest.approx(1.0)


@given(st.lists(st.tuples(*[st.floats(0.01, 1.0)] * 3), min_size=2, max_size=4))
def test_a_round_is_no_shorter_than_any_resource_needs(stages: list[tuple[float, float, float]]) -> None:
    for kind in (1, 2):
        assert turns(stages) >= sum(each[kind] for each in stages) - 1e-9


@given(st.lists(st.tuples(*[st.floats(0.01, 1.0)] * 3), min_size=1, max_size=3))
def test_speeds_follow_from_the_common_iteration(stages: list[tuple[float, float, float]]) -> None:
    known = tuple(sorted(stages))
    found = speeds(known)
    together = iteration_s(known)
    assert found == pytest.approx([sum(each) * STRETCH[1] / together for each in known])


def test_nothing_is_shared_while_gpus_are_free() -> None:
    cluster = pool(nodes=2)
    for number, stages in enumerate((LOADS, COMPUTES)):
        train(cluster, f"job-{number}", stages, 1000.0)
    carry_out(cluster)
    assert cluster.held[0] and cluster.held[1] and cluster.held[0] != cluster.held[1]


def test_complementary_jobs_share_the_same_gpus_when_more_wait_than_fit() -> None:
    cluster = pool()
    first, second = train(cluster, "loads", LOADS, 1000.0), train(cluster, "computes", COMPUTES, 1100.0)
    queue(cluster, 2)
    carry_out(cluster)
    assert cluster.held[first] == cluster.held[second] != ()


def test_two_alone_do_not_share_when_the_first_would_lose_more_than_is_gained() -> None:
    cluster = pool()
    train(cluster, "loads", LOADS, 1000.0)
    train(cluster, "computes", COMPUTES, 1100.0)
    carry_out(cluster)
    assert running(cluster) == {"loads"}


def test_jobs_that_compute_all_the_time_do_not_share() -> None:
    cluster = pool()
    for number in range(3):
        train(cluster, f"job-{number}", (0.0, 1.0, 0.0), 1000.0 + number)
    carry_out(cluster)
    assert running(cluster) == {"job-0"}


def test_two_groups_make_room_for_a_job_of_another_shape() -> None:
    walk = Walk(room=8.0, total=8.0)
    for row, stages in enumerate((LOADS, COMPUTES)):
        assert walk.add(row, (0, 1), 4.0, stages, behind=20 - row, must=False)
    assert walk.add(2, (1, 2), 4.0, TALKS, behind=18, must=False)
    assert [sorted(group.rows) for groups in walk.groups.values() for group in groups] == [[0, 1], [2]]


def test_a_short_job_suspends_a_long_one_when_sharing_does_not_pay() -> None:
    cluster = pool()
    train(cluster, "long", (0.0, 1.0, 0.0), 100_000.0)
    carry_out(cluster)
    train(cluster, "short", (0.0, 1.0, 0.0), 10.0)
    carry_out(cluster, 1000.0)
    assert running(cluster) == {"short"}


def test_a_job_is_suspended_for_its_equals_at_most_once_in_ten_minutes() -> None:
    cluster = pool()
    long = train(cluster, "long", (0.0, 1.0, 0.0), 100_000.0)
    cluster.set(long, suspended_s=900.0)
    carry_out(cluster, 950.0)
    train(cluster, "short", (0.0, 1.0, 0.0), 10.0)
    carry_out(cluster, 1000.0)
    assert "long" in running(cluster)


def test_memory_is_not_shared() -> None:
    cluster = Cluster(make_nodes(np.array([vector(cpu=INF, memory=10.0, gpu=1, disk=INF, network=INF)])))
    for number, stages in enumerate((LOADS, COMPUTES)):
        cluster.add(
            f"job-{number}", kind=TRAINING, request=vector(gpu=1, memory=6.0), remaining_s=100.0,
            stages=np.array([0.0, *stages]),
        )  # fmt: skip
    queue(cluster, 2, gpu=1)
    carry_out(cluster)
    assert len(running(cluster)) == 1


def test_who_waits_is_told_why() -> None:
    cluster = pool()
    for number in range(3):
        train(cluster, f"job-{number}", (0.0, 1.0, 0.0), 1000.0 + number)
    found = plan(cluster.snapshot(0.0))
    assert set(found.waits) == {1, 2}


stage = st.sampled_from((LOADS, COMPUTES, TALKS, (0.0, 1.0, 0.0), (0.3, 0.3, 0.3)))
drawn = st.lists(st.tuples(stage, st.floats(10.0, 1e5), st.sampled_from((1, 2, 4, 8))), min_size=1, max_size=24)


@settings(max_examples=60, deadline=None)
@given(drawn, st.lists(st.floats(1.0, 1500.0), min_size=1, max_size=4))
def test_turns_keep_the_laws(drawn: list[tuple[tuple[float, float, float], float, int]], gaps: list[float]) -> None:
    cluster, now_s, arriving = pool(nodes=2), 0.0, list(drawn)
    for gap_s in gaps:
        now_s += gap_s
        for _ in range(1 + len(drawn) // len(gaps)):
            if arriving:
                stages, work_s, gpus = arriving.pop()
                count = max(1, gpus // 4)
                cluster.add(
                    f"job-{len(arriving)}", kind=TRAINING, request=vector(gpu=gpus // count), minimum=count,
                    remaining_s=work_s * count, stages=np.array([0.0, *stages]),
                )  # fmt: skip
        made = plan(cluster.snapshot(now_s))
        for action in made.actions:
            since_s = now_s - cluster.snapshot(now_s).jobs.suspended_s[action.job]
            assert action.verb != Verb.SUSPEND or since_s >= 600.0, "suspended twice in ten minutes"
        cluster.apply(made, now_s)
        assert not plan(cluster.snapshot(now_s)), "the plan of a planned state is empty"
        _check_devices(cluster)


def _check_devices(cluster: Cluster) -> None:
    """Each device holds at most four jobs, all of which hold the very same devices; no job is there in part."""
    on: dict[tuple[int, int], list[int]] = {}
    seen = cluster.snapshot(0.0)
    for row in cluster.rows.values():
        held = cluster.held[row]
        assert len(held) in (0, int(seen.jobs.minimum[row]))
        for slot in held:
            assert slot.devices.bit_count() == seen.shapes.request[seen.jobs.shape[row], GPU]
            for bit in range(slot.devices.bit_length()):
                if slot.devices >> bit & 1:
                    on.setdefault((slot.node, bit), []).append(row)
    for rows in on.values():
        assert len(rows) <= MOST
        assert len({tuple(sorted(cluster.held[row])) for row in rows}) == 1
