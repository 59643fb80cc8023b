"""What becomes of a job: each rule of `lifecycle` by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from springtide.engines.engine import Exit, JobSeen, Phase, ReplicaSeen, TrainingSeen, WorkerSeen
from springtide.pool import lifecycle
from springtide.pool.records import JobRecord, ReplicaRecord, State, Step, Wish
from springtide.spec import Job, Kind, Range, Restart

NOW_S = 1000.0


def a_job(kind: Kind = Kind.BATCH, low: int = 1, high: int = 1, **more: object) -> Job:
    what = {"script": "t.py"} if kind == Kind.TRAINING else {"command": ("x",)}
    return Job(kind=kind, name="j", replicas=Range(low, high), **what, **more)  # type: ignore[arg-type]


def a_record(job: Job, *steps: Step, **more: object) -> JobRecord:
    replicas = tuple(ReplicaRecord(f"r{at + 1}", "n", (), step, since_s=900.0) for at, step in enumerate(steps))
    state = State.RUNNING if Step.STARTED in steps else State.WAITING
    said = {"state": state, "attempt": 1, "serial": len(steps)} | more
    return JobRecord(id="j-1", job=job, submitted_s=0.0, replicas=replicas, **said)  # type: ignore[arg-type]


def ended(code: int | None, cause: str = "ended", *, started_s: float = 990.0, **more: object) -> ReplicaSeen:
    return ReplicaSeen(Phase.ENDED, started_s=started_s, exit=Exit(NOW_S, code, cause, **more))  # type: ignore[arg-type]


def seen(training: TrainingSeen | None = None, **replicas: ReplicaSeen) -> JobSeen:
    return JobSeen({name.replace("_", "-"): one for name, one in replicas.items()}, training)


RUNS = ReplicaSeen(Phase.RUNNING)


def test_a_batch_that_ends_well_is_done() -> None:
    after = lifecycle.advance(a_record(a_job(), Step.STARTED), seen(r1=ended(0)), NOW_S)
    assert after.record.state == State.DONE and after.ended == ("r1",)


def test_an_end_is_taken_once_though_it_is_told_again() -> None:
    after = lifecycle.advance(a_record(a_job(), Step.STARTED), seen(r1=ended(3, "ended with exit code 3")), NOW_S)
    again = lifecycle.advance(after.record, seen(r1=ended(3, "ended with exit code 3")), NOW_S + 1)
    assert again.record.failures == after.record.failures == 1
    assert again.ended == ("r1",), "it is forgotten once more"


def test_back_off_doubles_and_has_an_end() -> None:
    record = a_record(a_job(Kind.SERVICE), Step.STARTED)
    waits = []
    for at in range(14):
        failed = replace(record, replicas=(ReplicaRecord("r1", "n", (), Step.STARTED),))
        record = lifecycle.advance(failed, seen(r1=ended(1)), NOW_S + at).record
        waits.append(record.retry_at_s - NOW_S - at)
    assert waits[0] == 0.0 and waits[1:5] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == lifecycle.LAST_RETRY_S


def test_a_replica_that_ran_long_counts_as_a_first_failure() -> None:
    record = a_record(a_job(Kind.SERVICE), Step.STARTED, failures=7)
    long_ago_s = NOW_S - 2 * lifecycle.STEADY_S[Kind.SERVICE]
    after = lifecycle.advance(record, seen(r1=ended(1, started_s=long_ago_s)), NOW_S).record
    assert after.failures == 1 and after.retry_at_s == NOW_S


def test_the_last_line_and_the_cause_of_a_failure_are_told() -> None:
    end = ended(3, "ended with exit code 3", tail=("loading", "KeyError: 'colour'"))
    after = lifecycle.advance(a_record(a_job(), Step.STARTED), seen(r1=end), NOW_S)
    assert "exit code 3" in after.record.reason and "KeyError: 'colour'" in after.record.reason


def test_a_service_that_ends_by_itself_starts_again_even_when_it_ends_well() -> None:
    after = lifecycle.advance(a_record(a_job(Kind.SERVICE), Step.STARTED), seen(r1=ended(0)), NOW_S).record
    assert not after.state.over and after.failures == 1


def test_a_job_whose_limit_is_reached_fails_once_its_other_replicas_are_gone() -> None:
    job = a_job(low=2, high=2, restart=Restart(policy="on-failure", limit=0))
    failing = lifecycle.advance(a_record(job, Step.STARTED, Step.STARTED), seen(r1=ended(1), r2=RUNS), NOW_S).record
    assert not failing.state.over and [one.step for one in failing.replicas] == [Step.STOPPING]
    after = lifecycle.advance(failing, seen(r2=ended(None, "was killed by SIGTERM")), NOW_S + 1).record
    assert after.state == State.FAILED


def test_an_elastic_batch_takes_no_new_replicas_once_one_found_nothing_left_to_do() -> None:
    record = a_record(a_job(low=1, high=8), Step.STARTED, Step.STARTED, Step.STARTED)
    after = lifecycle.advance(record, seen(r1=ended(0), r2=RUNS, r3=RUNS), NOW_S).record
    assert lifecycle.size_left(after) == (1, 2)
    last = replace(after, replicas=after.replicas[:1])
    assert lifecycle.advance(last, seen(r2=ended(0)), NOW_S).record.state == State.DONE


@pytest.mark.parametrize(("wish", "state"), [(Wish.PAUSE, State.PAUSED), (Wish.CANCEL, State.CANCELLED)])
def test_what_its_owner_stops_has_stopped_when_nothing_runs(wish: Wish, state: State) -> None:
    record = replace(a_record(a_job(), Step.STARTED, Step.ASSIGNED), wish=wish)
    stopping = lifecycle.advance(record, seen(r1=RUNS), NOW_S).record
    assert [one.step for one in stopping.replicas] == [Step.STOPPING], "what was not started is gone at once"
    assert stopping.state == State.RUNNING
    assert lifecycle.advance(stopping, seen(r1=ended(None)), NOW_S).record.state == state


def test_training_that_ended_with_its_digest_is_done() -> None:
    result = {"state": "done", "step": 400, "digest": "abc"}
    record = a_record(a_job(Kind.TRAINING, 1, 4), Step.STARTED, Step.STARTED)
    result["checkpoint"] = "/kept/step-400"
    after = lifecycle.advance(record, seen(run_1=ended(0, result=result)), NOW_S).record
    assert after.state == State.DONE and after.result == result and not after.replicas
    assert after.reason == "trained to the end, 400 steps; its last checkpoint is /kept/step-400"


def test_training_that_was_refused_as_bad_input_is_not_tried_again() -> None:
    result = {"state": "failed", "message": "batch_size: 10 is not divided by microbatches=3"}
    record = a_record(a_job(Kind.TRAINING), Step.STARTED)
    after = lifecycle.advance(record, seen(run_1=ended(2, result=result)), NOW_S).record
    assert after.state == State.FAILED and after.reason == result["message"]


def test_training_killed_from_outside_counts_no_failure_while_it_progresses() -> None:
    record = a_record(a_job(Kind.TRAINING), Step.STARTED)
    once = lifecycle.advance(record, seen(run_1=ended(None, result={"state": "interrupted", "step": 7})), NOW_S).record
    assert once.failures == 0 and once.state == State.WAITING
    stuck = replace(once, attempt=2, replicas=record.replicas)
    again = {"state": "interrupted", "step": 7}
    long_s = NOW_S - lifecycle.LIVED_S
    assert lifecycle.advance(stuck, seen(run_2=ended(None, started_s=long_s, result=again)), NOW_S).record.failures == 0
    assert lifecycle.advance(stuck, seen(run_2=ended(None, result=again)), NOW_S).record.failures == 1


def test_room_of_a_worker_is_free_when_as_few_work_as_should() -> None:
    record = a_record(a_job(Kind.TRAINING, 1, 4), Step.STARTED, Step.STOPPING, Step.STOPPING)
    three = TrainingSeen(workers=tuple(WorkerSeen(pid, 1 / 3) for pid in range(3)))
    one = TrainingSeen(workers=(WorkerSeen(1, 1.0),))
    assert len(lifecycle.advance(record, seen(three, run_1=RUNS), NOW_S).record.replicas) == 3
    assert len(lifecycle.advance(record, seen(one, run_1=RUNS), NOW_S).record.replicas) == 1


def _steps(workers: int, **seconds: float) -> JobSeen:
    crew = tuple(WorkerSeen(pid, 1 / workers) for pid in range(workers))
    return seen(TrainingSeen(workers=crew, step_s={int(name[1:]): each for name, each in seconds.items()}), run_1=RUNS)


def test_the_speed_of_the_size_that_runs_is_learnt_where_it_changed_enough_to_matter() -> None:
    record = a_record(a_job(Kind.TRAINING), Step.STARTED)
    first = lifecycle.advance(record, _steps(2, w2=0.5, w4=9.0), NOW_S).record
    assert first.learned["step_s"] == {"2": [0.5, NOW_S]}
    assert lifecycle.advance(first, _steps(2, w2=0.51), NOW_S + 1).record is first
    other = lifecycle.advance(first, _steps(3, w2=0.51, w3=0.4), NOW_S + 2).record
    assert other.learned["step_s"] == {"2": [0.5, NOW_S], "3": [0.4, NOW_S + 2]}


def test_a_speed_that_stays_does_not_grow_old() -> None:
    first = lifecycle.advance(a_record(a_job(Kind.TRAINING), Step.STARTED), _steps(2, w2=0.5), NOW_S).record
    later_s = NOW_S + lifecycle.TOLD_AGAIN_S
    assert lifecycle.advance(first, _steps(2, w2=0.51), later_s).record.learned["step_s"] == {"2": [0.51, later_s]}


def test_an_emptied_node_loses_a_service_one_replica_at_a_time() -> None:
    record = a_record(a_job(Kind.SERVICE, 2, 2), Step.STARTED, Step.STARTED)
    after = lifecycle.advance(record, seen(r1=RUNS, r2=RUNS), NOW_S, frozenset({"n"})).record
    assert sorted(one.step for one in after.replicas) == [Step.STARTED, Step.STOPPING]
    waits = lifecycle.advance(after, seen(r1=RUNS, r2=RUNS), NOW_S, frozenset({"n"})).record
    assert waits == after


def test_a_new_revision_replaces_a_service_in_place_once_all_are_ready() -> None:
    record = replace(a_record(a_job(Kind.SERVICE, 2, 2), Step.STARTED, Step.STARTED), revision=2)
    starting = ReplicaSeen(Phase.STARTING)
    assert lifecycle.advance(record, seen(r1=RUNS, r2=starting), NOW_S).record.replicas == record.replicas
    after = lifecycle.advance(record, seen(r1=RUNS, r2=RUNS), NOW_S).record
    assert [(one.id, one.step, one.revision) for one in after.replicas] == [
        ("r3", Step.ASSIGNED, 2), ("r1", Step.STOPPING, 1), ("r2", Step.STARTED, 1),
    ]  # fmt: skip


def test_a_new_revision_of_a_batch_stops_all_of_it_at_once() -> None:
    record = replace(a_record(a_job(low=2, high=2), Step.STARTED, Step.STARTED), revision=2)
    after = lifecycle.advance(record, seen(r1=RUNS, r2=RUNS), NOW_S).record
    assert {one.step for one in after.replicas} == {Step.STOPPING}


def test_what_nothing_happened_to_is_the_same_record() -> None:
    record = a_record(a_job(), Step.STARTED)
    assert lifecycle.advance(record, seen(r1=RUNS), NOW_S).record is record
