"""What is stranded on a node, and where a share or a whole GPU therefore goes."""

import numpy as np
import pytest

from springtide.core import Cluster, plan, resources
from springtide.core.cluster import make_nodes
from springtide.core.fragments import Mix
from springtide.core.resources import vector
from springtide.core.snapshot import BATCH

NO_GROUP = np.zeros(1, dtype=np.int64)


def a_mix(*shapes: tuple[np.ndarray, float]) -> Mix:
    return Mix(
        np.array([shape for shape, _ in shapes]),
        [{}] * len(shapes),
        np.array([w for _, w in shapes]),
        [{}],
        np.ones(len(shapes), bool),
    )


def stranded(mix: Mix, cpu: float, *devices: float) -> float:
    free = np.array([vector(cpu=cpu, gpu=sum(devices))])
    return float(mix.stranded(free, np.array([sorted(devices)]), NO_GROUP)[0])


def test_an_idle_gpu_that_everybody_can_use_is_not_stranded() -> None:
    mix = a_mix((vector(cpu=1, gpu=1), 1.0), (vector(cpu=1, gpu=0.5), 1.0))
    assert stranded(mix, 8.0, 1.0, 1.0) == pytest.approx(0.0)


def test_a_gpu_without_cpu_is_stranded_now_and_at_the_end() -> None:
    mix = a_mix((vector(cpu=1, gpu=1), 1.0), (vector(cpu=1, gpu=0.5), 1.0))
    assert stranded(mix, 0.0, 1.0, 1.0) == pytest.approx(4.0)


def test_a_share_that_nobody_asks_for_is_stranded() -> None:
    mix = a_mix((vector(cpu=1, gpu=0.8), 1.0), (vector(cpu=1, gpu=1), 1.0))
    assert stranded(mix, 8.0, 0.2) == pytest.approx(0.4)


def test_wishes_that_a_node_does_not_meet_cannot_use_it() -> None:
    request = np.array([vector(gpu=1), vector(gpu=0.5)])
    mix = Mix(
        request, [{"gpu-model": ("T4",)}] * 2, np.ones(2), [{"gpu-model": "T4"}, {"gpu-model": "A10"}], np.ones(2, bool)
    )
    free, devices = np.array([vector(gpu=1)] * 2), np.ones((2, 1))
    assert mix.stranded(free, devices, np.array([0, 1])) == pytest.approx([0.0, 2.0])


def placed(cluster: Cluster, name: str, request: np.ndarray) -> tuple[int, int]:
    row = cluster.add(name, kind=BATCH, request=request)
    cluster.apply(plan(cluster.snapshot(0.0)), 0.0)
    return cluster.held[row][0]


def a_cluster() -> Cluster:
    cluster = Cluster(make_nodes(np.array([vector(cpu=8, gpu=2)] * 2)))
    placed(cluster, "first", vector(cpu=1, gpu=0.5))
    placed(cluster, "second", vector(cpu=1, gpu=1))
    return cluster


def test_a_share_goes_beside_the_share_that_it_fills_up() -> None:
    cluster = a_cluster()
    shared = cluster.held[0][0]
    assert placed(cluster, "third", vector(cpu=1, gpu=0.5)) == shared


def test_whole_gpus_of_a_node_are_kept_for_those_that_need_them_together() -> None:
    cluster = a_cluster()
    assert {held[0].node for held in cluster.held[:2]} == {cluster.held[0][0].node}
    assert resources.GPU == 2 and placed(cluster, "both", vector(cpu=1, gpu=2))[1] == 0b11


def test_what_was_measured_before_changes_no_answer() -> None:
    cluster, fresh = a_cluster(), a_cluster()
    cluster.remove(0)
    fresh.remove(0)
    again = Cluster.of(fresh.frozen(0.0))
    request = vector(cpu=1, gpu=0.5)
    assert placed(cluster, "new", request) == placed(again, "new", request)
