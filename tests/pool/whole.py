"""The whole pool in virtual time: the real loop and store on the simulated engine, with faults from a seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from springtide.engines.simulated import Faults, SimulatedEngine
from springtide.pool.database import Database
from springtide.pool.loop import TICK_S, Loop
from springtide.pool.records import JobRecord, State, Wish
from springtide.pool.store import Store
from springtide.spec import Job, Kind, Node, Priority, Range, Resources, Restart, SpringtideError, Work
from springtide.spec.resources import UNLIMITED

START_S = 1_800_000_000.0
NO_FAULTS = Faults()


class Crash(BaseException):
    """The pool server dies at this instant."""


def node(name: str, cpu: float = 4, memory: float = 8 * 2**30) -> Node:
    return Node(name=name, resources=replace(UNLIMITED, cpu=cpu, memory=memory, gpu=0.0))


@dataclass
class World:
    """One pool: what its machines do, what it has kept, and the loop, which may die and come back."""

    folder: Path
    seed: int = 0
    nodes: tuple[Node, ...] = ()
    faults: Faults = NO_FAULTS
    crash: float = 0.0  # that a commit is the last thing a loop does, before or after it
    crashes: int = 0
    rounds: int = 0
    skew_s: float = 0.0  # the clock is wrong by so much
    submitted: dict[str, Kind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.nodes = self.nodes or (node("a"), node("b"))
        self.engine = SimulatedEngine(self.nodes, self.seed, self.faults)
        self.owners = Store(Database(self.folder / "pool.db"))
        self.up()

    @property
    def now_s(self) -> float:
        return START_S + self.engine.now_s + self.skew_s

    def up(self) -> None:
        """A pool server starts."""
        self.loop = Loop(Store(Database(self.folder / "pool.db", self._fault)), self.engine, self.folder)

    def _fault(self, moment: str) -> None:
        if self.random.random() < self.crash:
            raise Crash(moment)

    def pass_(self, seconds: float, step_s: float = 1.0) -> None:
        """Rounds while so much virtual time passes: one each `step_s`, or sooner where the loop says so."""
        until_s = self.engine.now_s + seconds
        while self.engine.now_s < until_s:
            due_s = self.round()
            step = max(due_s, 0.01) if due_s < TICK_S else step_s
            self.engine.advance(min(step, until_s - self.engine.now_s + 1e-9))

    def round(self) -> float:
        """One round, of a new loop where this one dies in it."""
        self.rounds += 1
        try:
            return self.loop.round(self.now_s)
        except Crash:
            self.crashes += 1
            self.loop.store.database.close()
            self.up()
            return 0.01

    def submit(self, *jobs: Job) -> list[str]:
        """Owners hand in jobs; their ids."""
        kept = self.owners.submit([JobRecord(id="", job=job, submitted_s=self.now_s) for job in jobs])
        self.submitted |= {one.id: one.job.kind for one in kept}
        return [one.id for one in kept]

    def job(self, name: str) -> JobRecord:
        found = self.owners.job(name)
        assert found is not None, f"{name} is lost"
        return found

    def wish(self, name: str, wish: Wish) -> None:
        """Its owner wants something else, if it is not too late."""
        self._change(replace(self.job(name), wish=wish))

    def pin(self, name: str, low: int, high: int) -> None:
        self._change(replace(self.job(name), pinned=Range(low, high)))

    def _change(self, record: JobRecord) -> None:
        try:
            self.owners.change(record)
        except SpringtideError:
            assert self.job(record.id).state.over or self.job(record.id).version != record.version

    def count(self, name: str) -> int:
        """How many replicas (of training: workers) run in fact."""
        processes = self.engine._processes.get(self.job(name).id, {})
        return sum(len(one.places) for one in processes.values() if one.exit is None)

    def states(self) -> dict[str, State]:
        return {job_id: self.job(job_id).state for job_id in self.submitted}

    def settle(self, seconds: float = 600.0) -> None:
        """Faults stop, and time passes."""
        self.crash = 0.0
        self.engine.faults = Faults()
        self.pass_(seconds, step_s=10.0)


def training(name: str = "fill", low: int = 1, high: int = 4, steps: int = 200, **more: object) -> Job:
    return Job(
        kind=Kind.TRAINING, name=name, script="train.py", replicas=Range(low, high), work=Work(steps=steps), **more
    )  # type: ignore[arg-type]


def service(name: str = "web", low: int = 1, high: int = 1, **more: object) -> Job:
    said = {"priority": Priority.PRODUCTION} | more
    return Job(kind=Kind.SERVICE, name=name, command=("serve",), replicas=Range(low, high), **said)  # type: ignore[arg-type]


def batch(name: str = "work", replicas: int = 1, seconds: float = 10.0, **more: object) -> Job:
    return Job(
        kind=Kind.BATCH, name=name, command=("work",), replicas=Range(replicas, replicas), work=Work(seconds=seconds),
        **more,
    )  # type: ignore[arg-type]  # fmt: skip


def anything(random_: random.Random, number: int, kinds: Sequence[Kind] = tuple(Kind)) -> Job:
    """A job as somebody might hand it in."""
    low = random_.randint(1, 2)
    kind, name = random_.choice(kinds), f"job-{number}"
    said = {
        "priority": random_.choice(list(Priority)),
        "resources": Resources(cpu=random_.choice([0.5, 1.0, 2.0]), memory=random_.choice([2**28, 2**30])),
    }
    match kind:
        case Kind.TRAINING:
            return training(name, low, low + random_.randint(0, 4), random_.randint(20, 400), **said)
        case Kind.BATCH:
            again = Restart(policy="on-failure", limit=None)
            return batch(name, low, random_.uniform(1, 60), restart=again, **said)
        case _:
            command = ("serve",)
            return Job(kind=kind, name=name, command=command, replicas=Range(low, low + 1), **said)  # type: ignore[arg-type]
