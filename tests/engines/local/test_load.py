"""Load of a service from what its replicas count, or from its cores."""

from __future__ import annotations

from springtide.engines.engine import LoadSeen
from springtide.engines.local.load import Loads


def test_requests_are_averaged_over_the_window_though_replicas_come_and_go() -> None:
    loads = Loads()
    assert loads.look("web", {"r1": 1000.0}, 0.0, 0.0, 10.0) is None
    assert loads.look("web", {"r1": 1100.0, "r2": 20.0}, 0.0, 10.0, 10.0) == LoadSeen(12.0, "requests")
    assert loads.look("web", {"r2": 30.0}, 0.0, 20.0, 10.0) == LoadSeen(1.0, "requests")


def test_a_count_that_begins_anew_is_not_a_fall() -> None:
    loads = Loads()
    loads.look("web", {"r1": 500.0}, 0.0, 0.0, 10.0)
    assert loads.look("web", {"r1": 50.0}, 0.0, 10.0, 10.0) == LoadSeen(5.0, "requests")


def test_without_counts_it_is_cores() -> None:
    loads = Loads()
    loads.look("web", {}, 1.0, 0.0, None)
    assert loads.look("web", {}, 2.0, 1.0, None) == LoadSeen(1.5, "cores")


def test_a_count_that_was_not_asked_anew_is_no_time_without_requests() -> None:
    loads = Loads()
    loads.look("web", {"r1": 0.0}, 0.0, 0.0, 1.0)
    assert loads.look("web", {"r1": 40.0}, 0.0, 1.0, 1.0) == LoadSeen(40.0, "requests")
    assert loads.look("web", {"r1": 40.0}, 0.0, 1.0, 1.0) == LoadSeen(40.0, "requests")
