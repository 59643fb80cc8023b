"""Metrics of plays small enough to count by hand."""

from __future__ import annotations

import numpy as np
import pytest

from sim.made import a_task, a_trace, figures
from springtide.sim.philly import equal_teams
from springtide.sim.timeline import MOST, Timeline


def test_allocated_and_used_are_kept_apart() -> None:
    slow = a_task("a", gpus=2, seconds=100, speeds=np.array([0.0, 1.0, 1.0]))
    found = figures(a_trace(slow))
    assert found["gpu_allocated"] == pytest.approx(50)
    assert found["gpu_used"] == pytest.approx(25)


def test_shares_are_means_from_first_to_last_submission() -> None:
    found = figures(a_trace(a_task("a", gpus=4, seconds=50), a_task("b", 100)))
    assert found["gpu_allocated"] == pytest.approx(50)


def test_jain_is_one_where_both_teams_get_alike_and_a_half_where_one_gets_all() -> None:
    teams = equal_teams(["one", "two"])
    alike = a_trace(a_task("a", gpus=2), a_task("b", gpus=2, team=1), teams=teams)
    assert figures(alike)["jain_index"] == pytest.approx(1)
    alone = a_trace(a_task("a", gpus=4), a_task("b", gpus=4, team=1), teams=teams, end_s=100.0 - 1e-3)
    assert figures(alone)["jain_index"] == pytest.approx(0.5)


def test_trials_count_when_they_begin_within_ten_seconds() -> None:
    trials = (a_task("t0", 1, trial=True), a_task("t1", 2, gpus=4, trial=True))
    assert figures(a_trace(*trials))["trials_started_in_10s"] == 50


def test_gpus_queued_while_others_idle() -> None:
    found = figures(a_trace(a_task("a", gpus=3), a_task("b", gpus=2), a_task("c", 200)))
    assert found["queued_while_idle"] == pytest.approx(1 * 100 / 200)


def test_a_timeline_keeps_its_means_however_long_it_gets() -> None:
    timeline = Timeline(1)
    for at in range(0, 5000, 10):
        timeline.add(at, at + 10, np.array([float(at < 2500)]))
    times, values = timeline.means()
    assert len(times) <= MOST
    assert values.mean() == pytest.approx(0.5, abs=0.01)
