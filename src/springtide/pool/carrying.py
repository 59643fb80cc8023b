"""From a plan to what the engine is told. Pure: records in, records and instructions out.

A replica starts only once its room is free in fact, not only in the plan: what is on its way out still counts. So no
node is ever over its capacity, whatever is slow to end, and nobody has to remember who waits for whom.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from springtide.core.plan import Verb
from springtide.engines.engine import JobSeen, Phase, Place, ReplicaSeen, run_name
from springtide.pool import lifecycle
from springtide.pool.records import JobRecord, ReplicaRecord, State, Step
from springtide.spec.job import Kind
from springtide.spec.resources import RESOURCES
from springtide.spec.sharing import Node

_SLACK = 1e-9
Spot = tuple[str, tuple[int, ...]]  # node, devices


@dataclass(frozen=True, slots=True)
class Start:
    """These replicas are to run; of training, as many workers."""

    job: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Resize:
    """A run is to have as many workers as places."""

    job: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """These replicas are to end."""

    job: str
    replicas: tuple[str, ...]


Instruction = Start | Resize | Stop


def decided(
    record: JobRecord, verb: Verb, added: Sequence[Spot], removed: Sequence[Spot], reason: str, now_s: float
) -> JobRecord:
    """The record after an action of a plan."""
    record = replace(record, replicas=lifecycle.stopped(record.replicas, _chosen(record, removed), now_s))
    serial, new = record.serial, []
    for node, devices in added:
        serial += 1
        new.append(ReplicaRecord(f"r{serial}", node, devices, Step.ASSIGNED, record.revision, now_s))
    return replace(
        record,
        replicas=(*record.replicas, *new),
        serial=serial,
        reason=reason,
        resized_s=now_s,
        suspended_s=now_s if verb == Verb.SUSPEND else record.suspended_s,
    )


def _chosen(record: JobRecord, removed: Sequence[Spot]) -> list[str]:
    """Of equal places the latest: the first replicas of a job are its minimum."""
    names: list[str] = []
    for node, devices in removed:
        found = (
            one.id
            for one in reversed(record.replicas)
            if (one.node, one.devices) == (node, devices) and one.step != Step.STOPPING and one.id not in names
        )
        names += [next(found)]
    return names


def attained(before: JobRecord, after: JobRecord, now_s: float) -> JobRecord:
    """`after`, with the replica-seconds of those that were started before and are not any more."""
    going = {one.id for one in after.replicas if one.step == Step.STARTED}
    left = [one for one in before.replicas if one.step == Step.STARTED and one.id not in going]
    had_s = sum(max(now_s - one.since_s, 0.0) for one in left)
    return replace(after, attained_s=after.attained_s + had_s) if left else after


class Room:
    """What is free on each node in fact: started and not yet gone."""

    def __init__(self, nodes: Iterable[Node], records: Iterable[JobRecord]) -> None:
        self._free = {node.name: list(node.resources.vector()) for node in nodes}
        self._devices: dict[tuple[str, int], float] = {}
        for record in records:
            for one in record.replicas:
                if one.step != Step.ASSIGNED:
                    self._book(record, one)

    def take(self, record: JobRecord, replica: ReplicaRecord) -> bool:
        """Books the replica's room if it is there."""
        free = self._free.get(replica.node)
        asked, part = record.job.resources.vector(), _part(record)
        if free is None or any(want > has * (1 + _SLACK) + _SLACK for want, has in zip(asked, free, strict=True)):
            return False
        devices = [self._devices.get((replica.node, device), 0.0) for device in replica.devices]
        if any(used + part > 1 + _SLACK for used in devices):
            return False
        self._book(record, replica)
        return True

    def _book(self, record: JobRecord, replica: ReplicaRecord) -> None:
        free = self._free.setdefault(replica.node, [0.0] * len(RESOURCES))
        for at, amount in enumerate(record.job.resources.vector()):
            free[at] -= amount
        for device in replica.devices:
            self._devices[replica.node, device] = self._devices.get((replica.node, device), 0.0) + _part(record)


def _part(record: JobRecord) -> float:
    return min(record.job.resources.gpu, 1.0)


def begin(records: Iterable[JobRecord], nodes: Sequence[Node], now_s: float) -> list[JobRecord]:
    """Those records of which replicas may start now, the most important first."""
    known = list(records)
    waiting = [one for one in known if any(replica.step == Step.ASSIGNED for replica in one.replicas)]
    if not waiting:
        return []
    room = Room(nodes, known)
    waiting.sort(key=lambda one: (-one.job.priority, one.submitted_s, one.id))
    begun = [_begun(record, room, now_s) for record in waiting]
    return [after for before, after in zip(waiting, begun, strict=True) if after is not before]


def _begun(record: JobRecord, room: Room, now_s: float) -> JobRecord:
    steps = {one.step for one in record.replicas}
    training = record.job.kind == Kind.TRAINING
    if training and Step.STARTED not in steps and Step.STOPPING in steps:
        return record  # its last process is still on its way out
    started = {
        one.id for one in record.replicas if one.step == Step.ASSIGNED and room.take(record, one)
    }  # fmt: skip
    if not started:
        return record
    replicas = tuple(
        replace(one, step=Step.STARTED, since_s=now_s) if one.id in started else one for one in record.replicas
    )
    attempt = record.attempt + (training and Step.STARTED not in steps)
    begun = record.started_s if record.started_s is not None else now_s
    return replace(record, replicas=replicas, attempt=attempt, state=State.RUNNING, started_s=begun)


def instructions(record: JobRecord, seen: JobSeen | None) -> list[Instruction]:
    """What the engine has to be told so that what is comes to be what is recorded; nothing where it is."""
    there = seen.replicas if seen else {}
    names = _names(record)
    orphans = tuple(name for name in there if _goes_on(there, name) and name not in names)
    found: list[Instruction] = [Stop(record.id, orphans)] if orphans else []
    if record.job.kind == Kind.TRAINING:
        return found + _training(record, seen)
    start = [one for one in record.replicas if one.step == Step.STARTED and one.id not in there]
    stop = [one.id for one in record.replicas if one.step == Step.STOPPING and _goes_on(there, one.id)]
    found += [Stop(record.id, tuple(stop))] if stop else []
    by_revision: dict[int, list[ReplicaRecord]] = {}
    for one in start:
        by_revision.setdefault(one.revision, []).append(one)
    found += [Start(record.id, _places(some)) for some in by_revision.values()]
    return found


def started(record: JobRecord) -> tuple[Place, ...]:
    """Where replicas are to be, of those whose room is free in fact."""
    return _places(one for one in record.replicas if one.step == Step.STARTED)


def _training(record: JobRecord, seen: JobSeen | None) -> list[Instruction]:
    name = run_name(record.attempt)
    there = seen.replicas if seen else {}
    places = started(record)
    if name not in there:
        return [Start(record.id, places)] if places else []
    if there[name].phase == Phase.ENDED:
        return []
    if not places:
        return [Stop(record.id, (name,))] if _goes_on(there, name) else []
    return [Resize(record.id, places)]


def _names(record: JobRecord) -> set[str]:
    if record.job.kind == Kind.TRAINING:
        return {run_name(record.attempt)} if record.replicas else set()
    return {one.id for one in record.replicas}


def _goes_on(there: Mapping[str, ReplicaSeen], name: str) -> bool:
    return name in there and there[name].phase in (Phase.STARTING, Phase.RUNNING)


def _places(replicas: Iterable[ReplicaRecord]) -> tuple[Place, ...]:
    return tuple(Place(one.id, one.node, one.devices) for one in replicas)
