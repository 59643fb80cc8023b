"""The planner's columns follow the records: what is taken over, what is learnt, what is left alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide.core import curves
from springtide.core.lag import Behind
from springtide.engines.engine import LoadSeen
from springtide.pool import picture
from springtide.pool.picture import Picture
from springtide.pool.records import JobRecord, ReplicaRecord, State, Step, Wish
from springtide.spec import Job, Kind, Load, Node, Pool, Range, Resources
from springtide.spec.resources import UNLIMITED

NOW_S = 1_800_000_000.0
POOL = Pool(nodes=(Node(name="a", resources=replace(UNLIMITED, cpu=8, gpu=0.0)),))


def a_record(kind: Kind, low: int = 1, high: int = 4, held: int = 0, **more: object) -> JobRecord:
    said = {name: more.pop(name) for name in ("load", "work", "lag") if name in more}
    what = {"script": "t.py"} if kind == Kind.TRAINING else {"command": ("x",)}
    job = Job(kind=kind, name="j", replicas=Range(low, high), resources=Resources(cpu=1.0), **what, **said)  # type: ignore[arg-type]
    replicas = tuple(ReplicaRecord(f"r{at}", "a", (), Step.STARTED, since_s=NOW_S - 60) for at in range(held))
    return JobRecord(id="j-1", job=job, submitted_s=NOW_S - 100, **{"replicas": replicas} | more)  # type: ignore[arg-type]


def columns(record: JobRecord, settling: bool = False) -> tuple[Picture, int]:
    shown = Picture(POOL)
    shown.sync(record, NOW_S, settling)
    row = shown.row(record.id)
    assert row is not None
    return shown, row


def sizes(record: JobRecord, settling: bool = False) -> tuple[int, int]:
    shown, row = columns(record, settling)
    return int(shown.cluster.column("minimum")[row]), int(shown.cluster.column("maximum")[row])


def test_while_loads_are_unknown_training_does_not_grow_and_services_do_not_shrink() -> None:
    assert sizes(a_record(Kind.TRAINING, held=2), settling=True) == (1, 2)
    served = a_record(Kind.SERVICE, held=3, load=Load(requests_per_second=10.0))
    assert sizes(served, settling=True) == (3, 4)
    assert sizes(served) == (1, 4)
    assert sizes(a_record(Kind.STREAM, held=3, lag=100), settling=True) == (3, 4)
    assert sizes(a_record(Kind.STREAM, held=3), settling=True) == (1, 4)


def test_what_would_be_lost_grows_though_nobody_looks_at_the_job() -> None:
    shown, row = columns(a_record(Kind.BATCH, held=2))
    assert shown.snapshot(NOW_S).jobs.unsaved_s[row] == pytest.approx(120)
    assert shown.snapshot(NOW_S + 9.0).jobs.unsaved_s[row] == pytest.approx(138)
    shown.sync(a_record(Kind.BATCH, held=0), NOW_S + 9.0)
    assert shown.snapshot(NOW_S + 9.5).jobs.unsaved_s[row] == 0


def test_what_leaves_is_held_no_longer_and_a_job_that_nobody_wants_is_not_planned() -> None:
    shown, row = columns(a_record(Kind.BATCH, held=3))
    assert shown.cluster.column("running")[row] == 3
    record = a_record(Kind.BATCH, held=3)
    leaving = replace(record, replicas=(replace(record.replicas[0], step=Step.STOPPING), *record.replicas[1:]))
    shown.sync(leaving, NOW_S)
    assert shown.cluster.column("running")[row] == 2 and shown.cluster.free[0, 0] == 6
    shown.sync(replace(leaving, wish=Wish.PAUSE), NOW_S)
    assert shown.row("j-1") is None and shown.cluster.free[0, 0] == 8


@pytest.mark.parametrize("state", [State.DONE, State.FAILED, State.CANCELLED])
def test_what_is_over_is_not_planned(state: State) -> None:
    assert not picture.plannable(a_record(Kind.BATCH, state=state), NOW_S)


def test_a_job_that_backs_off_is_planned_again_in_time_and_when_the_clock_was_set_back() -> None:
    record = a_record(Kind.BATCH, retry_at_s=NOW_S + 8)
    assert not picture.plannable(record, NOW_S)
    assert picture.plannable(record, NOW_S + 8)
    assert picture.plannable(record, NOW_S - 4000)


def test_a_place_that_was_given_is_held_also_by_a_job_that_backs_off() -> None:
    waiting = ReplicaRecord("r1", "a", (), Step.ASSIGNED)
    assert picture.plannable(a_record(Kind.SERVICE, retry_at_s=NOW_S + 8, replicas=(waiting,)), NOW_S)


def test_a_pin_wins_over_the_range_and_over_the_load() -> None:
    record = a_record(Kind.SERVICE, load=Load(requests_per_second=10.0), pinned=Range(3, 3))
    shown, row = columns(record)
    assert sizes(record) == (3, 3) and row not in shown.cluster.loads


def test_a_service_that_counts_no_requests_is_measured_by_its_cores() -> None:
    record = a_record(Kind.SERVICE, load=Load(requests_per_second=10.0))
    shown, row = columns(record)
    shown.observed(record, LoadSeen(0.35, "cores"), NOW_S)
    load = shown.cluster.loads[row]
    assert load.rate / load.per_replica == pytest.approx(0.5)


def test_a_stream_that_follows_its_lag_needs_what_its_replicas_tell() -> None:
    record = a_record(Kind.STREAM, lag=100)
    shown, row = columns(record)
    shown.observed(record, LoadSeen(250.0, "records", Behind(250.0)), NOW_S)
    load = shown.cluster.loads[row]
    assert (load.rate, load.why) == (2.5, "250 records wait, and one replica may be 100 behind")
    shown, row = columns(replace(record, pinned=Range(2, 2)))
    assert row not in shown.cluster.loads


def test_a_load_is_known_again_when_its_service_is_planned_again() -> None:
    record = a_record(Kind.SERVICE, load=Load(requests_per_second=10.0))
    shown, _ = columns(record)
    shown.observed(record, LoadSeen(25.0, "requests"), NOW_S)
    shown.sync(replace(record, wish=Wish.PAUSE), NOW_S)
    shown.sync(record, NOW_S)
    row = shown.row("j-1")
    assert row is not None and shown.cluster.loads[row].rate == 25.0


@given(
    st.dictionaries(st.integers(1, 8), st.floats(0.001, 100.0), min_size=1),
    st.sampled_from([curves.prior(8), curves.of_microbatches(8, 8), curves.of_microbatches(3, 8)]),
)
def test_nobody_is_taken_for_faster_than_so_many_workers_can_be(step_s: dict[int, float], shape: np.ndarray) -> None:  # type: ignore[type-arg]
    speeds = picture.learnt_speeds(step_s, shape)
    assert speeds[0] == 0 and speeds[1] == pytest.approx(1.0)
    assert (speeds <= shape / shape[1] + 1e-9).all() and (speeds[1:] > 0).all()


def test_a_speed_that_was_measured_long_ago_says_nothing() -> None:
    learned = {"microbatches": 4, "step_s": {"2": [1.0, NOW_S - 5], "4": [1.0, NOW_S - 10 * picture.FRESH_S]}}
    shown, row = columns(a_record(Kind.TRAINING, held=2, learned=learned))
    curve = shown.snapshot(NOW_S).curves.speed[shown.cluster.column("curve")[row]]
    assert curve[4] == pytest.approx(4.0), "it follows the microbatches, and will be measured anew"


def test_work_that_is_known_falls_with_time() -> None:
    from springtide.spec import Work

    shown, row = columns(a_record(Kind.BATCH, held=1, work=Work(seconds=100.0)))
    assert shown.cluster.column("remaining_s")[row] == pytest.approx(40.0)
    assert shown.cluster.column("unsaved_s")[row] == pytest.approx(60.0)
