"""Who goes first under the simple rivals."""

from __future__ import annotations

import pytest

from sim.made import a_task, a_trace, figures
from springtide.sim.philly import equal_teams

LONG, WIDE, SHORT = a_task("long", gpus=3), a_task("wide", 1, gpus=4), a_task("short", 2, seconds=50)


def test_first_come_first_served_blocks_behind_the_first() -> None:
    assert figures(a_trace(LONG, WIDE, SHORT))["makespan"] == pytest.approx(250)


def test_backfilling_goes_ahead_where_the_first_in_line_does_not_wait_longer() -> None:
    found = figures(a_trace(LONG, WIDE, SHORT), "fifo-backfill")
    assert found["makespan"] == pytest.approx(200)
    assert found["average_wait"] == pytest.approx((0 + 99 + 0) / 3)


def test_backfilling_does_not_start_what_would_delay_the_first_in_line() -> None:
    found = figures(a_trace(LONG, WIDE, a_task("longer", 2, seconds=500)), "fifo-backfill")
    assert found["makespan"] == pytest.approx(700)


def test_drf_starts_the_team_that_has_less() -> None:
    teams = equal_teams(["one", "two"])
    tasks = [a_task(f"a{n}", gpus=2) for n in range(3)] + [a_task("b", gpus=2, seconds=10, team=1)]
    assert figures(a_trace(*tasks, teams=teams), "drf")["average_wait"] == pytest.approx((0 + 10 + 100 + 0) / 4)


def test_dedicated_clusters_leave_idle_what_others_queue_for() -> None:
    teams = equal_teams(["one", "two"])
    trace = a_trace(a_task("a", gpus=4), a_task("b", gpus=4), a_task("c", 200, team=1), nodes="2x4gpu", teams=teams)
    assert figures(trace, "static")["queued_while_idle"] == pytest.approx(4 * 100 / 200)
