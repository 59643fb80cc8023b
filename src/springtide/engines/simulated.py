"""An engine without processes: virtual time, work of known length, and faults from a seed.

The real loop and store run on it, so that what a crash between two writes does, or an engine that refuses or tells
late, is seen thousands of times in seconds. It keeps its own account of what it was asked to do, and writes down in
`violations` whatever no engine should ever be asked.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from springtide.engines.engine import (
    Exit,
    JobSeen,
    Notice,
    Observation,
    Phase,
    Place,
    ReplicaSeen,
    Task,
    TrainingSeen,
    Used,
    WorkerSeen,
    run_name,
)
from springtide.spec.errors import Refused
from springtide.spec.job import Job, Kind
from springtide.spec.resources import RESOURCES
from springtide.spec.sharing import Node

BATCH_S = 30.0  # a batch replica whose work is not known
STEPS, STEP_S = 200, 0.1  # of a training job that says nothing else, with one worker
MICROBATCHES = 8
_SLACK = 1e-6


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong, each as a probability per occasion."""

    refuse: float = 0.0  # start, stop and resize are refused
    late_s: float = 0.0  # an end is told up to so much later
    doubled: float = 0.0  # an end is told once more after it was forgotten
    crash: float = 0.0  # a replica ends by itself within its first minute


@dataclass(slots=True)
class _Process:
    task: Task
    places: list[Place]
    started_s: float
    ends_s: float  # inf for what goes on
    asked: bool = False
    exit: Exit | None = None
    told_s: float = 0.0  # from when on its end is told
    step: float = 0.0  # training


@dataclass(slots=True)
class SimulatedEngine:
    """See the module. `advance` moves its clock; what it holds outlives the loop that uses it, as processes do."""

    cluster: tuple[Node, ...]
    seed: int = 0
    faults: Faults = Faults()
    now_s: float = 0.0
    violations: list[str] = field(default_factory=list)
    starts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _processes: dict[str, dict[str, _Process]] = field(default_factory=dict)
    _saved: dict[str, float] = field(default_factory=dict)  # step of the last checkpoint, by job
    _ghosts: list[tuple[str, str, _Process]] = field(default_factory=list)  # ends that will be told once more
    _used: dict[str, float] = field(default_factory=dict)
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)

    # --- the engine's verbs

    def nodes(self) -> Sequence[Node]:
        return self.cluster

    def overcommitted(self) -> str | None:
        return None

    def observe(self) -> Observation:
        seen = {job: self._seen(job, processes) for job, processes in self._processes.items()}
        for job, name, process in self._ghosts:
            known = seen.get(job, JobSeen())
            seen[job] = replace(known, replicas={name: _replica(process, self.now_s), **known.replicas})
        self._ghosts.clear()
        return Observation(seen, tuple[Notice, ...]())

    def start(self, task: Task, places: Sequence[Place]) -> None:
        self._perhaps_refuse("start")
        known = self._processes.setdefault(task.id, {})
        if task.job.kind == Kind.TRAINING:
            self._begin(known, task, run_name(task.attempt), list(places))
        else:
            for place in places:
                self._begin(known, task, place.replica, [place])
        self._check_room()

    def resize(self, task: Task, places: Sequence[Place]) -> None:
        self._perhaps_refuse("resize")
        process = self._processes.get(task.id, {}).get(run_name(task.attempt))
        if process is None or process.exit is not None:
            raise Refused(f"{task.job.name} does not run")
        process.places = list(places)
        self._check_room()

    def stop(self, job: str, replicas: Sequence[str], grace_s: float) -> None:
        self._perhaps_refuse("stop")
        for name in replicas:
            process = self._processes.get(job, {}).get(name)
            if process is not None and process.exit is None and not process.asked:
                process.asked = True
                process.ends_s = min(process.ends_s, self.now_s + self._random.uniform(0.0, min(grace_s, 2.0)))

    def rest(self, job: str) -> None:
        if any(process.exit is None for process in self._processes.get(job, {}).values()):
            self.violations.append(f"{job} was put to rest while it ran")

    def forget(self, job: str, replicas: Sequence[str] | None = None) -> None:
        known = self._processes.get(job, {})
        for name in list(known) if replicas is None else replicas:
            process = known.get(name)
            if process is None:
                continue
            if process.exit is None:
                if replicas is None:
                    self.violations.append(f"{job} was forgotten while {name} ran")
                continue
            if self._random.random() < self.faults.doubled:
                self._ghosts.append((job, name, process))
            del known[name]
        if not known:
            self._processes.pop(job, None)

    def wait(self, timeout_s: float) -> None:
        del timeout_s

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass

    # --- the world

    def advance(self, seconds: float) -> None:
        """Virtual time passes: work is done, replicas end."""
        until_s = self.now_s + seconds
        for job, processes in self._processes.items():
            for process in processes.values():
                if process.exit is None:
                    self._work(job, process, until_s)
        self.now_s = until_s

    def kill(self, job: str, name: str) -> None:
        """As by SIGKILL from outside."""
        process = self._processes[job][name]
        if process.exit is None:
            self._end(job, process, self.now_s, None, "was killed by SIGKILL")

    def running(self) -> dict[str, list[str]]:
        """Job id -> what runs of it, told or not."""
        return {
            job: [name for name, process in processes.items() if process.exit is None]
            for job, processes in self._processes.items()
        }

    def _begin(self, known: dict[str, _Process], task: Task, name: str, places: list[Place]) -> None:
        if name in known:
            return
        self.starts[task.id, name] += 1
        if self.starts[task.id, name] > 1:
            self.violations.append(f"{task.id} {name} was started again after it had been forgotten")
        process = _Process(task, places, self.now_s, self.now_s + _length_s(task.job))
        if task.job.kind == Kind.TRAINING:
            process.step = self._saved.get(task.id, 0.0)
            others = [other for other in known.values() if other.exit is None]
            if others:
                self.violations.append(f"{task.id} was started as {name} while another process of it ran")
        if self._random.random() < self.faults.crash:
            process.ends_s = min(process.ends_s, self.now_s + self._random.uniform(0.0, 60.0))
        known[name] = process

    def _work(self, job: str, process: _Process, until_s: float) -> None:
        end_s = min(until_s, process.ends_s)
        seconds = max(end_s - self.now_s, 0.0)
        self._used[job] = self._used.get(job, 0.0) + seconds * process.task.job.resources.cpu * len(process.places)
        if process.task.job.kind == Kind.TRAINING:
            steps = _steps(process.task.job)
            process.step += seconds / _step_s(len(process.places))
            if process.step >= steps:
                process.step = steps
                self._end(job, process, end_s, 0, "ended")
                return
        if process.ends_s <= until_s:
            crashed = not process.asked and process.ends_s < process.started_s + _length_s(process.task.job) - _SLACK
            code = (None if crashed else 0) if process.task.job.kind != Kind.BATCH or not process.asked else None
            self._end(job, process, end_s, code, "was killed by SIGKILL" if crashed else "ended")

    def _end(self, job: str, process: _Process, at_s: float, code: int | None, cause: str) -> None:
        result = None
        if process.task.job.kind == Kind.TRAINING:
            done = process.step >= _steps(process.task.job)
            self._saved[job] = process.step  # its supervisor writes a checkpoint also when the process above it is gone
            state = "done" if done else "stopped" if process.asked else "interrupted"
            result = {"state": state, "step": int(process.step), "digest": f"digest-of-{job}" if done else None}
            code = 0 if done or process.asked else code
        process.exit = Exit(at_s, code, cause, process.asked, (), result)
        process.told_s = at_s + self._random.uniform(0.0, self.faults.late_s)

    def _seen(self, job: str, processes: dict[str, _Process]) -> JobSeen:
        training = None
        for process in processes.values():
            if process.task.job.kind == Kind.TRAINING and process.exit is None:
                training = _training(process)
        replicas = {name: _replica(process, self.now_s) for name, process in processes.items()}
        return JobSeen(replicas, training, Used(cpu_s=self._used.get(job, 0.0)))

    def _perhaps_refuse(self, verb: str) -> None:
        if self._random.random() < self.faults.refuse:
            raise Refused(f"the engine does not {verb} now: a fault was wanted")

    def _check_room(self) -> None:
        capacity = {node.name: node.resources for node in self.cluster}
        for name, has in capacity.items():
            for resource in RESOURCES:
                asked = sum(
                    getattr(process.task.job.resources, resource)
                    for processes in self._processes.values()
                    for process in processes.values()
                    if process.exit is None
                    for place in process.places
                    if place.node == name
                )
                if asked > getattr(has, resource) * (1 + _SLACK):
                    self.violations.append(f"{name} holds {asked:g} {resource} at {self.now_s:g} s")


def _replica(process: _Process, now_s: float) -> ReplicaSeen:
    told = process.exit is not None and process.told_s <= now_s
    phase = Phase.ENDED if told else Phase.STOPPING if process.asked else Phase.RUNNING
    return ReplicaSeen(
        phase, process.task.revision, pid=1, node=process.places[0].node if process.places else None,
        started_s=process.started_s, exit=process.exit if told else None,
    )  # fmt: skip


def _training(process: _Process) -> TrainingSeen:
    count = max(len(process.places), 1)
    workers = tuple(WorkerSeen(pid, 1.0 / count) for pid in range(len(process.places)))
    return TrainingSeen(
        int(process.step), _steps(process.task.job), None, process.task.job.microbatches or MICROBATCHES, 1, workers,
        {count: _step_s(count)},
    )  # fmt: skip


def _length_s(job: Job) -> float:
    if job.kind != Kind.BATCH:
        return float("inf")
    return job.work.seconds if job.work and job.work.seconds else BATCH_S


def _steps(job: Job) -> int:
    return job.work.steps if job.work and job.work.steps else STEPS


def _step_s(workers: int) -> float:
    return STEP_S / float(max(workers, 1) ** 0.9)
