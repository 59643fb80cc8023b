"""Virtual time: work gets done at the world's speed, and what happens is told in order."""

from __future__ import annotations

import numpy as np
import pytest

from sim.made import a_task, a_trace, figures
from springtide.core import resources
from springtide.core.snapshot import BATCH, SERVICE
from springtide.sim.trace import LoadChange, Outage, Resize, Task
from springtide.sim.world import Steady


def test_a_job_takes_as_long_as_its_work() -> None:
    assert figures(a_trace(a_task("a", gpus=2, seconds=100)))["average_completion"] == pytest.approx(100)


def test_a_second_job_waits_for_the_first_where_both_do_not_fit() -> None:
    found = figures(a_trace(a_task("a", gpus=4), a_task("b", 10, gpus=1)))
    assert found["average_wait"] == pytest.approx(90 / 2)
    assert found["makespan"] == pytest.approx(200)


def test_a_job_runs_as_fast_as_its_curve_says() -> None:
    task = a_task("a", gpus=2, seconds=100, speeds=np.array([0.0, 1.0, 1.5]))
    assert figures(a_trace(task))["average_completion"] == pytest.approx(200 / 1.5)


def test_a_start_delays_the_work() -> None:
    found = figures(a_trace(a_task("a", seconds=100), world=Steady(start=7.0)))
    assert found["average_completion"] == pytest.approx(107)


def test_with_rounds_a_job_starts_at_the_next_one() -> None:
    assert figures(a_trace(a_task("a", 10), round_s=60.0))["average_wait"] == pytest.approx(50)


def test_training_goes_back_to_its_checkpoint_when_its_only_node_is_lost() -> None:
    trace = a_trace(a_task("a", seconds=100, checkpoint_s=30), outages=[Outage(0, 70.0, 80.0)])
    found = figures(trace)
    assert found["lost_work"] == pytest.approx(10)
    assert found["average_completion"] == pytest.approx(80 + 40)


def test_a_batch_begins_anew_when_its_node_is_lost() -> None:
    found = figures(a_trace(a_task("a", seconds=100, kind=BATCH), outages=[Outage(0, 70.0, 80.0)]))
    assert found["lost_work"] == pytest.approx(70)
    assert found["average_completion"] == pytest.approx(180)


def test_what_follows_a_job_leaves_with_it() -> None:
    endless = a_task("servers", gpus=3, seconds=float("inf"), follows="a")
    found = figures(a_trace(endless, a_task("a", seconds=50), a_task("b", 10, gpus=4, seconds=10)))
    assert found["makespan"] == pytest.approx(60)


def _service(maximum: int = 4) -> Task:
    request = resources.vector(gpu=1.0)
    return Task(name="web", submit_s=0.0, request=request, kind=SERVICE, minimum=1, maximum=maximum, headroom=0.0)


def test_load_beyond_what_is_free_is_a_shortfall() -> None:
    trace = a_trace(
        _service(8), loads=[LoadChange(0, "web", 2), LoadChange(50, "web", 6)], end_s=100.0, window_s=(0.0, 100.0)
    )
    found = figures(trace)
    assert found["service_shortfall"] == pytest.approx(2 * 50)
    assert found["service_restored_after"] == pytest.approx(50)


def test_replicas_that_start_do_not_answer_yet() -> None:
    trace = a_trace(
        _service(), loads=[LoadChange(0, "web", 1), LoadChange(50, "web", 3)], end_s=100.0, window_s=(10.0, 100.0),
        world=Steady(start=5.0),
    )  # fmt: skip
    found = figures(trace)
    assert found["service_shortfall"] == pytest.approx(2 * 5)
    assert found["service_restored_after"] == 0
    assert found["service_answering_after"] == pytest.approx(5)


def test_an_owner_may_ask_for_another_size() -> None:
    trace = a_trace(_service(), resizes=[Resize(0, "web", 4), Resize(50, "web", 2)], end_s=100.0, window_s=(0.0, 100.0))
    assert figures(trace, "springtide")["gpu_allocated"] == pytest.approx(75)


def test_a_play_in_which_nothing_can_happen_any_more_ends() -> None:
    blocked = a_task("b", 1, gpus=4)
    found = figures(a_trace(a_task("a", gpus=1, seconds=float("inf")), blocked, round_s=60.0))
    assert found["unfinished"] == 1
