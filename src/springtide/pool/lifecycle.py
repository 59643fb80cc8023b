"""What becomes of a job when something happened to its replicas or its owner wants something else. Pure.

A record and what the engine sees of it go in; the record after it, what there is to tell, and which ends the engine
need not tell any more come out. Sizes and places are not decided here but by the planner; this is who is born, who is
over, who starts again and when.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from springtide.engines.engine import Exit, JobSeen, Phase, ReplicaSeen, TrainingSeen, run_name
from springtide.pool.records import JobRecord, ReplicaRecord, State, Step, Wish
from springtide.pool.store import Event
from springtide.spec.job import Kind, Restart
from springtide.spec.quantities import duration_text

FIRST_RETRY_S, LAST_RETRY_S = 1.0, 300.0
TOLD_AGAIN_S = 30.0  # after which a speed that is as it was is written down again, so that it does not grow old
LIVED_S = 15.0  # a run that was killed after so long was not killed by what it is itself
# A replica that ran so long was no failed start. What serves may be killed now and then; what is to end, hardly.
STEADY_S = {Kind.SERVICE: 60.0, Kind.STREAM: 60.0, Kind.BATCH: 600.0, Kind.TRAINING: 600.0}
NOTHING = JobSeen()


@dataclass(frozen=True, slots=True)
class Advanced:
    """A record after what happened. `ended`: replicas whose ends are on record with it."""

    record: JobRecord
    events: tuple[Event, ...] = ()
    ended: tuple[str, ...] = ()


@dataclass(slots=True)
class _Course:
    """A record while it is being changed."""

    record: JobRecord
    now_s: float
    events: list[Event] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)

    def tell(self, kind: str, sentence: str) -> None:
        one = self.record
        self.events.append(Event(self.now_s, kind, f"{one.name}: {sentence}", one.job.team, one.name, one.id))

    def set(self, **changes: Any) -> None:
        if any(getattr(self.record, name) != value for name, value in changes.items()):
            self.record = replace(self.record, **changes)

    def drop(self, gone: Iterable[str]) -> None:
        names = set(gone)
        self.set(replicas=tuple(one for one in self.record.replicas if one.id not in names))

    def stop(self, chosen: Iterable[str]) -> None:
        """These are to end: at once where nothing was started yet."""
        self.set(replicas=stopped(self.record.replicas, chosen, self.now_s))

    def finish(self, state: State, sentence: str, result: Mapping[str, Any] | None = None) -> None:
        """The job is over, once nothing of it runs any more."""
        self.set(state=state, reason=sentence, finished_s=self.now_s, result=result, replicas=())
        self.tell(str(state), sentence)


def stopped(replicas: tuple[ReplicaRecord, ...], chosen: Iterable[str], now_s: float) -> tuple[ReplicaRecord, ...]:
    """The replicas after these were told to end; one that was not started is gone at once."""
    names = set(chosen)
    left = (one for one in replicas if one.id not in names or one.step != Step.ASSIGNED)
    return tuple(
        replace(one, step=Step.STOPPING, since_s=now_s) if one.id in names and one.step == Step.STARTED else one
        for one in left
    )


def advance(
    record: JobRecord, seen: JobSeen | None, now_s: float, drained: frozenset[str] = frozenset(), agreed: bool = True
) -> Advanced:
    """What the record is now. `seen`: None where the engine knows nothing of the job.

    `agreed`: of training, the engine has taken over where its workers are to be; until then no room of it is free.
    """
    course = _Course(record, now_s)
    here = seen or NOTHING
    if record.job.kind == Kind.TRAINING:
        _training(course, here, agreed)
    else:
        _processes(course, here)
    if not course.record.state.over:
        _wish(course)
        _leave(course, here, drained)
        _roll(course, here)
        _state(course)
    course.ended += _unknown(course.record, here)
    return Advanced(course.record, tuple(course.events), tuple(dict.fromkeys(course.ended)))


def _unknown(record: JobRecord, seen: JobSeen) -> list[str]:
    """Ends that are on record already, told once more."""
    names = {one.id for one in record.replicas}
    if record.job.kind == Kind.TRAINING:
        names = {run_name(record.attempt)} if record.replicas else set()
    return [name for name, one in seen.replicas.items() if one.phase == Phase.ENDED and name not in names]


# --- services, streams, batch: each replica is a process


def _processes(course: _Course, seen: JobSeen) -> None:
    for one in course.record.replicas:
        there = seen.replicas.get(one.id)
        if there is None or there.phase != Phase.ENDED:
            if there is None and one.step == Step.STOPPING:
                course.drop([one.id])  # it was never started
            continue
        end = there.exit or Exit(course.now_s, None, "ended")
        course.drop([one.id])
        course.ended.append(one.id)
        if one.step == Step.STOPPING:
            continue
        if course.record.job.kind == Kind.BATCH and end.good:
            _well(course)
        else:
            _failed(course, one, there, end)
        if course.record.state.over:
            return


def _well(course: _Course) -> None:
    """A batch replica did its work: the job is done when as many have as it is to have at least, and none runs."""
    done = _done(course.record) + 1
    course.set(learned={**course.record.learned, "done": done}, failures=0)
    if course.record.job.restart.policy == "always":
        return
    wanted, left = course.record.range.minimum, len(course.record.replicas)
    if done >= wanted and not left:
        replicas = "its work is done" if done == 1 else f"all of its {done} replicas have done their work"
        course.finish(State.DONE, replicas, {"exit_code": 0, "replicas": done})


def _done(record: JobRecord) -> int:
    return int(record.learned.get("done", 0))


def size_left(record: JobRecord) -> tuple[int, int]:
    """Between how many replicas the job may have now: a batch that has done part of its work needs fewer."""
    least, most, done = record.range.minimum, record.range.maximum, _done(record)
    if record.job.kind != Kind.BATCH or not done or record.job.restart.policy == "always":
        return least, most
    going = sum(one.step != Step.STOPPING for one in record.replicas)
    left = max(least - done, 0)
    most = max(left, going) if most > least else left
    return max(min(left, most), min(going, 1)), max(most, 0)


def _failed(course: _Course, replica: ReplicaRecord, seen: ReplicaSeen, end: Exit) -> None:
    """A replica ended by itself, and not as it should: it starts again after a while, or the job has failed."""
    ran_s = end.at_s - seen.started_s if seen.started_s is not None else 0.0
    said = f"; its last line: {end.tail[-1][:200]}" if end.tail else ""
    _retry(course, f"replica {replica.id} {end.cause}{said}", ran_s, end)


def _retry(course: _Course, what: str, ran_s: float, end: Exit) -> None:
    restart: Restart = course.record.job.restart
    steady_s = STEADY_S[course.record.job.kind]
    failures = 1 if ran_s > steady_s else course.record.failures + 1
    code = {"exit_code": end.code, "cause": end.cause}
    if restart.policy == "never":
        course.tell("failed", what)
        course.stop(one.id for one in course.record.replicas)
        course.set(learned={**course.record.learned, "verdict": what, "code": code}, failures=failures)
    elif restart.limit is not None and failures > restart.limit:
        verdict = f"{what}; it was started again {restart.limit} times, which is its limit"
        course.stop(one.id for one in course.record.replicas)
        course.set(learned={**course.record.learned, "verdict": verdict, "code": code}, failures=failures)
    else:
        wait_s = min(FIRST_RETRY_S * 2.0 ** (failures - 1), LAST_RETRY_S) if failures > 1 else 0.0
        again = "at once" if not wait_s else f"in {duration_text(wait_s)}"
        course.tell("failure", f"{what}; it starts again {again}")
        course.set(failures=failures, retry_at_s=course.now_s + wait_s, reason=f"{what}; it starts again {again}")
    _verdict(course)


def _verdict(course: _Course) -> None:
    """A job that has failed is over when nothing of it runs any more."""
    verdict = course.record.learned.get("verdict")
    if verdict and not course.record.replicas:
        course.finish(State.FAILED, str(verdict), course.record.learned.get("code"))


# --- training: one process, whose workers are the replicas


def _training(course: _Course, seen: JobSeen, agreed: bool) -> None:
    record = course.record
    process = seen.replicas.get(run_name(record.attempt))
    if seen.training is not None:
        _learn(course, seen.training)
    if process is None:
        course.drop(one.id for one in record.replicas if one.step == Step.STOPPING)
    elif process.phase == Phase.ENDED:
        _run_ended(course, process, process.exit or Exit(course.now_s, None, "ended"))
    else:
        wanted = sum(one.step == Step.STARTED for one in record.replicas)
        workers = len(seen.training.workers) if seen.training else 0
        if agreed and wanted and workers <= wanted:  # who was to leave has left
            course.drop(one.id for one in record.replicas if one.step == Step.STOPPING)


def _learn(course: _Course, training: TrainingSeen) -> None:
    """What a run says of itself, kept where it changes what is planned or outlives it."""
    known = dict(course.record.learned)
    for name, value in (("microbatches", training.microbatches), ("steps", training.steps)):
        if value is not None:
            known[name] = value
    size = len(training.workers)
    seconds = training.step_s.get(size)
    if seconds:
        kept: dict[str, list[float]] = known.get("step_s", {})
        before, at_s = kept.get(str(size), (math.inf, -math.inf))
        if abs(before / seconds - 1) > 0.1 or not at_s <= course.now_s < at_s + TOLD_AGAIN_S:
            known["step_s"] = kept | {str(size): [round(seconds, 6), course.now_s]}
    if known != course.record.learned:
        course.set(learned=known)


def _run_ended(course: _Course, process: ReplicaSeen, end: Exit) -> None:
    record, result = course.record, dict(end.result or {})
    course.ended.append(run_name(record.attempt))
    step = int(result.get("step") or 0)
    asked = bool(record.replicas) and all(one.step != Step.STARTED for one in record.replicas)
    course.set(replicas=tuple(one for one in record.replicas if one.step == Step.ASSIGNED))
    if result.get("state") == "done":
        course.set(replicas=())
        where = f"; its last checkpoint is {result['checkpoint']}" if result.get("checkpoint") else ""
        course.finish(State.DONE, f"trained to the end, {step:,} steps{where}", result)
        return
    progressed = step > int(record.learned.get("step", 0))
    ran_s = end.at_s - process.started_s if process.started_s is not None else 0.0
    course.set(learned={**course.record.learned, "step": max(step, int(record.learned.get("step", 0)))})
    if asked or record.wish != Wish.RUN:
        return
    said = str(result.get("message") or "")
    what = said if end.code else f"the run {end.cause}"
    if end.code == 2:
        course.set(replicas=())
        course.finish(State.FAILED, said or f"the run {end.cause}", result or {"exit_code": end.code})
    elif not end.code and (progressed or end.asked or ran_s >= LIVED_S):
        # Killed from outside, or told to end: it lost nothing that its checkpoint does not hold.
        course.tell("failure", f"{what}; it goes on from its last checkpoint")
        course.set(failures=0)
    else:
        course.set(replicas=())
        _retry(course, what, ran_s if progressed else 0.0, end)


# --- what the owner wants, and what must move


def _wish(course: _Course) -> None:
    record = course.record
    _verdict(course)
    if course.record.state.over or record.wish == Wish.RUN:
        if record.wish == Wish.RUN and record.state == State.PAUSED:
            course.set(state=State.WAITING, reason="it was resumed")
            course.tell("resumed", "it may run again")
        return
    course.stop(one.id for one in record.replicas)
    if course.record.replicas:
        return
    if record.wish == Wish.CANCEL:
        course.finish(State.CANCELLED, "its owner cancelled it", record.result)
    elif record.state != State.PAUSED:
        course.set(state=State.PAUSED, reason="its owner paused it")
        course.tell("paused", "its owner paused it; `tide resume` lets it go on")


def _leave(course: _Course, seen: JobSeen, drained: frozenset[str]) -> None:
    """From a node that is being emptied everything goes that loses nothing: of a service one replica at a time."""
    record = course.record
    if record.job.kind == Kind.BATCH or not drained:
        return
    leaving = [one for one in record.replicas if one.node in drained and one.step != Step.STOPPING]
    if leaving and record.job.kind != Kind.TRAINING:
        leaving = leaving[:1] if _all_ready(record, seen) else []
    if leaving:
        course.stop(one.id for one in leaving)
        nodes = ", ".join(sorted({one.node for one in leaving}))
        course.tell("moved", f"{len(leaving)} of its replicas leave {nodes}, which is being emptied")


def _roll(course: _Course, seen: JobSeen) -> None:
    """Replicas of an older revision are replaced where they are: of a service one at a time, of others all at once."""
    record = course.record
    old = [one for one in record.replicas if one.revision != record.revision]
    waiting = [one for one in old if one.step == Step.ASSIGNED]
    if waiting:
        names = {one.id for one in waiting}
        course.set(
            replicas=tuple(replace(o, revision=record.revision) if o.id in names else o for o in record.replicas)
        )
    running = [one for one in old if one.step == Step.STARTED]
    if not running:
        return
    if record.job.kind == Kind.SERVICE:
        running = running[:1] if _all_ready(record, seen) else []
        course.set(replicas=tuple(_successor(course, one) for one in running) + course.record.replicas)
    course.stop(one.id for one in running)


def _successor(course: _Course, old: ReplicaRecord) -> ReplicaRecord:
    """Starts in the same place as soon as the old one has left it."""
    course.set(serial=course.record.serial + 1)
    name = f"r{course.record.serial}"
    return ReplicaRecord(name, old.node, old.devices, Step.ASSIGNED, course.record.revision, course.now_s)


def _all_ready(record: JobRecord, seen: JobSeen) -> bool:
    """Whether nobody is on its way in or out, so that one more may go without leaving too few."""
    return all(
        one.step == Step.STARTED and one.id in seen.replicas and seen.replicas[one.id].phase == Phase.RUNNING
        for one in record.replicas
    )


def _state(course: _Course) -> None:
    record = course.record
    started = any(one.step == Step.STARTED for one in record.replicas)
    if started and record.state != State.RUNNING:
        course.set(state=State.RUNNING, started_s=record.started_s or course.now_s)
    elif not record.replicas and record.state == State.RUNNING:
        course.set(state=State.WAITING)
