"""What nodes this machine is."""

from __future__ import annotations

import math

import pytest

from springtide.engines.local import machine
from springtide.spec import UserError
from springtide.spec.resources import UNLIMITED, Resources
from springtide.spec.sharing import Node
from springtide.train import hardware


def a_node(cpu: float, gpu: float = 0.0, name: str = "n") -> Node:
    return Node(name=name, resources=Resources(cpu=cpu, memory=4e9, gpu=gpu, disk=math.inf, network=math.inf))


def test_the_machine_is_one_node_with_its_cores_and_some_memory_left_to_the_system() -> None:
    (node,) = machine.nodes()
    assert node.resources.cpu == hardware.cores()
    assert hardware.memory_bytes() / 2 <= node.resources.memory <= 0.9 * hardware.memory_bytes()
    assert node.resources.disk == UNLIMITED.disk


@pytest.mark.parametrize(("total", "left"), [(100e9, 10e9), (2e9, 512e6), (0.6e9, 0.3e9)])
def test_a_tenth_or_half_a_gigabyte_is_the_system_s_but_never_more_than_half(total: float, left: float) -> None:
    assert machine.for_jobs(int(total)) == total - left


def test_virtual_nodes_are_named_and_unlimited_in_what_is_not_named() -> None:
    nodes = machine.nodes("2x1cpu,2Gi+1x4gpu")
    assert [node.name for node in nodes] == ["node-0", "node-1", "node-2"]
    assert (nodes[0].resources.memory, nodes[0].resources.gpu) == (2 * 2**30, 0.0)
    assert (nodes[2].resources.cpu, nodes[2].resources.gpu) == (math.inf, 4.0)


@pytest.mark.parametrize("text", ["", "8", "8x1apples", "2000x1cpu", "1x99gpu"])
def test_bad_words_name_the_option(text: str) -> None:
    with pytest.raises(UserError, match="--virtual"):
        machine.nodes(text)


def test_more_than_the_machine_has_is_said_once_and_allowed() -> None:
    said = machine.overcommitted([a_node(4), a_node(4, gpu=1)], a_node(2))
    assert said == (
        "the virtual nodes have 8 cores (there are 2 cores), 8.0 GB of memory (there are 4.0 GB of memory), "
        "1 GPU (there are 0 GPUs): good for a trial, but they slow each other down"
    )


def test_parts_that_fit_are_not_overcommitted() -> None:
    half = Node(name="a", resources=Resources(cpu=1, memory=1e9, disk=math.inf, network=math.inf))
    assert machine.overcommitted([half, half], a_node(2)) is None


def test_real_devices_are_dealt_to_virtual_nodes_in_turn() -> None:
    parts = [a_node(1, 2, "a"), a_node(1, 2, "b")]
    assert machine.physical(parts, 4) == {"a": (0, 1), "b": (2, 3)}
    assert machine.physical(parts, 1) == {"a": (0, 0), "b": (0, 0)}
    assert machine.physical(parts, 0) == {"a": (), "b": ()}
