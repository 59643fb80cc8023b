"""`--nodes` in words, and work that no node could hold."""

from __future__ import annotations

import numpy as np
import pytest

from sim.made import a_task
from springtide.core.resources import CPU, GPU, MEMORY
from springtide.sim import pool
from springtide.spec import UserError


def test_what_is_not_named_is_unlimited() -> None:
    nodes = pool.nodes("16x4gpu")
    assert nodes.capacity.shape == (16, 5)
    assert nodes.capacity[0, GPU] == 4
    assert np.isinf(nodes.capacity[0, [CPU, MEMORY]]).all()


def test_kinds_of_nodes_are_joined_by_plus() -> None:
    nodes = pool.nodes("2x16cpu,64Gi+1x500m cpu,1Gi")
    assert nodes.capacity[:, CPU].tolist() == [16, 16, 0.5]
    assert nodes.capacity[0, MEMORY] == 64 * 2**30


@pytest.mark.parametrize("text", ["", "x4gpu", "0x4gpu", "4x4gpux", "4x99gpu", "4x-1gpu", "3x4 apples"])
def test_bad_words_are_said(text: str) -> None:
    with pytest.raises(UserError, match="--nodes"):
        pool.nodes(text)


def test_a_job_that_no_node_could_hold_is_said_with_the_largest_node() -> None:
    task = a_task("big", place="jobs.csv:7")
    with pytest.raises(UserError, match=r"jobs.csv:7: big asks for .* node-0 with 8 cpu"):
        pool.check_fits(pool.nodes("1x8cpu+1x4cpu"), [task], "x")


def test_a_gang_larger_than_the_pool_is_said() -> None:
    with pytest.raises(UserError, match=r"needs 9 replicas .* holds 8"):
        pool.check_fits(pool.nodes("2x4gpu"), [a_task("wide", gpus=9)], "x")
