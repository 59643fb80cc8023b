"""What a job that is handed in means beside the one that is there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from springtide.pool import submission
from springtide.pool.records import JobRecord, State, Wish
from springtide.pool.submission import Order
from springtide.spec import Bid, Job, Kind, Load, Priority, Range, Resources, Restart
from springtide.spec.errors import Refused, UserError

JOB = Job(kind=Kind.SERVICE, name="web", command=("serve",), port=8080, replicas=Range(1, 3), folder="/a")
THERE = JobRecord("web-1", JOB, 0.0, source="0" * 64)


def meant(**changes: object) -> submission.Meant:
    return submission.meaning(Order(replace(JOB, **changes), THERE.source), THERE, 1.0, "eve")  # type: ignore[arg-type]


def test_a_new_name_is_a_new_job() -> None:
    found = submission.meaning(Order(JOB), None, 7.0, "eve")
    assert (found.outcome, found.record.submitted_s, found.record.by) == ("submitted", 7.0, "eve")


@pytest.mark.parametrize("changes", [{}, {"folder": "/b"}])
def test_the_same_job_is_left_as_it_is_also_from_another_folder(changes: dict[str, object]) -> None:
    assert meant(**changes) == submission.Meant(THERE, "unchanged")


@pytest.mark.parametrize(
    "changes",
    [
        {"command": ("other",)}, {"args": ("-v",)}, {"environment": {"A": "1"}}, {"python": "/usr/bin/python3"},
        {"port": 9}, {"listen": "own"}, {"secrets": ("db",)}, {"data": ("/d",)}, {"resources": Resources(cpu=2)},
    ],
)  # fmt: skip
def test_what_replicas_run_is_a_new_revision(changes: dict[str, object]) -> None:
    found = meant(**changes)
    assert (found.outcome, found.record.revision) == ("updated", 2)


@pytest.mark.parametrize(
    "changes",
    [
        {"replicas": Range(2, 5)}, {"priority": Priority.PRODUCTION}, {"labels": {"a": "b"}}, {"load": Load(cpu=0.5)},
        {"restart": Restart(policy="never")}, {"grace_s": 1.0},
    ],
)  # fmt: skip
def test_what_is_wished_for_them_restarts_none(changes: dict[str, object]) -> None:
    found = meant(**changes)
    assert (found.outcome, found.record.revision) == ("updated", 1)


def test_another_folder_s_content_is_a_new_revision() -> None:
    found = submission.meaning(Order(JOB, "1" * 64), THERE, 1.0, "eve")
    assert (found.record.revision, found.record.source) == (2, "1" * 64)


def test_kind_and_team_cannot_change() -> None:
    with pytest.raises(Refused, match="kind cannot change from service to stream"):
        meant(kind=Kind.STREAM, port=None)
    with pytest.raises(Refused, match="a job of that name belongs to another team"):
        meant(team="other")


def test_a_job_that_is_being_cancelled_is_waited_for() -> None:
    with pytest.raises(Refused, match="is being cancelled"):
        submission.meaning(Order(JOB), replace(THERE, wish=Wish.CANCEL), 1.0, "eve")


def test_an_update_leaves_a_pin_and_a_pause() -> None:
    there = replace(THERE, pinned=Range(2, 2), wish=Wish.PAUSE)
    found = submission.meaning(Order(replace(JOB, replicas=Range(1, 9)), there.source), there, 1.0, "eve").record
    assert (found.pinned, found.wish, found.range) == (Range(2, 2), Wish.PAUSE, Range(2, 2))


def test_a_pin_may_lie_outside_of_the_range_and_ends_with_auto() -> None:
    pinned = submission.changed(THERE, replicas=Range(7, 7))
    assert pinned.range == Range(7, 7)
    assert submission.changed(pinned, replicas="auto").range == JOB.replicas


def test_only_spot_jobs_bid() -> None:
    with pytest.raises(UserError, match="only spot jobs bid, and web is standard"):
        submission.changed(THERE, bid=Bid(per_core_hour=1))
    spot = replace(THERE, job=replace(JOB, priority=Priority.SPOT))
    assert submission.changed(spot, bid=Bid(per_core_hour=1)).job.bid == Bid(per_core_hour=1)


@pytest.mark.parametrize("state", [state for state in State if state.over])
def test_what_is_over_is_not_changed(state: State) -> None:
    with pytest.raises(Refused, match=f"web is {state}"):
        submission.changed(replace(THERE, state=state), paused=True)
    with pytest.raises(Refused, match=f"web is {state} already"):
        submission.cancelled(replace(THERE, state=state))


def test_only_what_failed_or_was_cancelled_is_tried_again() -> None:
    for state in State:
        record = replace(THERE, state=state, pinned=Range(2, 2))
        if state in (State.FAILED, State.CANCELLED):
            again = submission.again(record, 5.0, "eve")
            assert (again.state, again.job, again.source, again.pinned) == (
                State.WAITING,
                JOB,
                record.source,
                Range(2, 2),
            )
        else:
            with pytest.raises(Refused, match="only what failed or was cancelled"):
                submission.again(record, 5.0, "eve")


def test_all_faults_of_all_jobs_are_said_at_once() -> None:
    with pytest.raises(UserError) as error:
        submission.read(['{"kind": "batch"}', '{"kind": "batch", "name": "a", "comand": ["x"]}', "[]"])
    lines = str(error.value).splitlines()
    assert any(line.startswith("jobs[0]: name") for line in lines)
    assert any(line.startswith("jobs[1]: comand") and 'did you mean "command"' in line for line in lines)
    assert any(line.startswith("jobs[2]: ") for line in lines)


def test_two_jobs_of_one_name_are_refused() -> None:
    one = '{"kind": "batch", "name": "a", "command": ["x"]}'
    with pytest.raises(UserError, match='"a" is the name of two of these jobs'):
        submission.read([one, one])
