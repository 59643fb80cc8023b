"""Load of a service from what its replicas count, or from its cores."""

from __future__ import annotations

from springtide.core.lag import Behind
from springtide.engines.engine import LoadSeen
from springtide.engines.local.load import Lags, Loads, Processing


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


def test_a_stream_is_as_far_behind_as_its_replicas_together() -> None:
    lags = Lags()
    assert lags.look("prepare", {}, 0.0) is None
    lags.look("prepare", {"r1": Processing(900.0, 500.0, 5.0, 1400.0, 3.0)}, 0.0)
    told = {"r1": Processing(300.0, 700.0, 7.0, 1600.0, 3.0), "r2": Processing(100.0, 100.0, 1.0, 1600.0, 3.0)}
    seen = lags.look("prepare", told, 10.0)
    assert seen == LoadSeen(400.0, "records", Behind(400.0, arriving=20.0, carries=100.0, partitions=3))


def test_what_a_replica_carries_is_known_though_all_are_idle_and_its_counts_begin_again() -> None:
    lags = Lags()
    for now_s, processed, busy_s in ((0.0, 0.0, 0.0), (10.0, 500.0, 5.0), (11.0, 100.0, 1.0)):
        seen = lags.look("prepare", {"r1": Processing(0.0, processed, busy_s, 600.0, 1.0)}, now_s)
        assert seen and seen.behind and seen.behind.carries == (100.0 if now_s else 0.0)
    for now_s in range(12, 100):
        seen = lags.look("prepare", {"r1": Processing(0.0, 100.0, 1.0, 600.0, 1.0)}, float(now_s))
    assert seen and seen.behind == Behind(0.0, 0.0, 100.0, 1)
