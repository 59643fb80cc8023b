"""From plan to instruction: no node is over its capacity at any moment, and what is told makes things as recorded."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from springtide.core.plan import Verb
from springtide.engines.engine import JobSeen, Phase, Place, ReplicaSeen
from springtide.pool import carrying
from springtide.pool.records import JobRecord, ReplicaRecord, Step, Wish
from springtide.spec import Job, Kind, Node, Priority, Range, Resources

NODES = tuple(Node(name=name, resources=Resources(cpu=4, memory=8, gpu=2, disk=9, network=9)) for name in ("a", "b"))


def a_record(
    name: str, cpu: float, replicas: tuple[ReplicaRecord, ...], kind: Kind = Kind.BATCH, **more: object
) -> JobRecord:
    job = Job(
        kind=kind, name=name, command=("x",), script="t.py", replicas=Range(1, 9),
        resources=Resources(cpu=cpu, gpu=float(more.pop("gpu", 0.0))),  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return JobRecord(id=name, job=job, submitted_s=0.0, replicas=replicas, attempt=1)


_replicas = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(list(Step))), max_size=5)
_kinds = st.sampled_from([Kind.BATCH, Kind.TRAINING, Kind.SERVICE])
_jobs = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 2.0]), _kinds, st.sampled_from(list(Priority)), _replicas), max_size=6
)


def _made(drawn: list) -> list[JobRecord]:  # type: ignore[type-arg]
    return [_made_one(f"j{at}", *one) for at, one in enumerate(drawn)]


def _made_one(name: str, cpu: float, kind: Kind, priority: Priority, drawn: list[tuple[str, Step]]) -> JobRecord:
    replicas = tuple(ReplicaRecord(f"r{at}", node, (), step) for at, (node, step) in enumerate(drawn))
    return a_record(name, cpu, replicas, kind, priority=priority)


def _load(records: list[JobRecord]) -> dict[str, float]:
    load = {"a": 0.0, "b": 0.0}
    for record in records:
        for one in record.replicas:
            if one.step != Step.ASSIGNED:
                load[one.node] += record.job.resources.cpu
    return load


@given(_jobs)
def test_a_start_never_brings_a_node_over_its_capacity(drawn: list) -> None:  # type: ignore[type-arg]
    before = _made(drawn)
    begun = {record.id: record for record in carrying.begin(before, NODES, 1.0)}
    after = [begun.get(record.id, record) for record in before]
    load, limit = _load(after), _load(before)
    for node in load:
        assert load[node] <= max(4.0, limit[node]) + 1e-9


@given(_jobs)
def test_nothing_else_is_changed_by_a_start(drawn: list) -> None:  # type: ignore[type-arg]
    before = {record.id: record for record in _made(drawn)}
    for record in carrying.begin(before.values(), NODES, 1.0):
        old = {one.id: one for one in before[record.id].replicas}
        for one in record.replicas:
            assert one == old[one.id] or (one.step, old[one.id].step) == (Step.STARTED, Step.ASSIGNED)


def test_the_more_important_starts_first() -> None:
    waiting = (ReplicaRecord("r1", "a", (), Step.ASSIGNED),)
    low = a_record("low", 3.0, waiting, priority=Priority.EXPERIMENT)
    high = a_record("high", 3.0, waiting, priority=Priority.PRODUCTION)
    assert [record.id for record in carrying.begin([low, high], NODES, 1.0)] == ["high"]


def test_a_device_is_not_given_twice() -> None:
    held = a_record("held", 1.0, (ReplicaRecord("r1", "a", (0,), Step.STOPPING),), gpu=1)
    new = a_record("new", 1.0, (ReplicaRecord("r1", "a", (0,), Step.ASSIGNED),), gpu=1)
    assert carrying.begin([held, new], NODES, 1.0) == []
    assert len(carrying.begin([replace(held, replicas=()), new], NODES, 1.0)) == 1


def test_shares_of_a_device_add_up() -> None:
    halves = [a_record(f"half-{at}", 1.0, (ReplicaRecord("r1", "a", (1,), Step.ASSIGNED),), gpu=0.5) for at in range(3)]
    assert len(carrying.begin(halves, NODES, 1.0)) == 2


def test_a_run_begins_anew_only_when_its_last_process_is_gone() -> None:
    leaving, waiting = ReplicaRecord("r1", "a", (), Step.STOPPING), ReplicaRecord("r2", "b", (), Step.ASSIGNED)
    record = a_record("run", 1.0, (leaving, waiting), Kind.TRAINING)
    assert carrying.begin([record], NODES, 1.0) == []
    begun = carrying.begin([replace(record, replicas=(waiting,))], NODES, 1.0)
    assert begun[0].attempt == record.attempt + 1


def test_of_equal_places_the_latest_is_given_up() -> None:
    replicas = tuple(ReplicaRecord(f"r{at}", "a", (), Step.STARTED) for at in range(3))
    after = carrying.decided(a_record("j", 1.0, replicas), Verb.SHRINK, [], [("a", ())], "why", 5.0)
    assert [one.id for one in after.replicas if one.step == Step.STOPPING] == ["r2"]
    assert after.reason == "why" and after.resized_s == 5.0 and after.suspended_s is None


def test_a_suspension_is_remembered() -> None:
    record = a_record("j", 1.0, (ReplicaRecord("r0", "a", (), Step.STARTED),))
    assert carrying.decided(record, Verb.SUSPEND, [], [("a", ())], "why", 5.0).suspended_s == 5.0


def test_what_runs_and_is_on_no_record_is_stopped() -> None:
    record = a_record("j", 1.0, (ReplicaRecord("r1", "a", (), Step.STARTED),))
    runs = ReplicaSeen(Phase.RUNNING)
    assert carrying.instructions(record, JobSeen({"r1": runs, "r9": runs})) == [carrying.Stop("j", ("r9",))]


def test_what_is_recorded_and_does_not_run_is_started() -> None:
    record = a_record("j", 1.0, (ReplicaRecord("r1", "a", (0,), Step.STARTED),))
    assert carrying.instructions(record, None) == [carrying.Start("j", (Place("r1", "a", (0,)),))]


def test_nothing_is_told_of_what_was_told_to_end_already() -> None:
    record = a_record("j", 1.0, (ReplicaRecord("r1", "a", (), Step.STOPPING),))
    assert carrying.instructions(record, JobSeen({"r1": ReplicaSeen(Phase.STOPPING)})) == []
    assert carrying.instructions(record, JobSeen({"r1": ReplicaSeen(Phase.RUNNING)})) == [carrying.Stop("j", ("r1",))]


def test_a_run_whose_workers_all_leave_is_stopped_as_one() -> None:
    record = a_record("run", 1.0, (ReplicaRecord("r1", "a", (), Step.STOPPING),), Kind.TRAINING)
    runs = JobSeen({"run-1": ReplicaSeen(Phase.RUNNING)})
    assert carrying.instructions(replace(record, wish=Wish.PAUSE), runs) == [carrying.Stop("run", ("run-1",))]
