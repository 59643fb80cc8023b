"""What the pool says to an engine, and what it sees through it.

An engine has four verbs: observe, start, stop, resize. Each may be repeated: what is there already is not started
again, what has ended is not ended again. What an engine cannot do it refuses with a sentence (`Refused`), and the next
round of the pool sees why. Everything here is plain data; the engines are `local` (processes of this machine) and
`simulated` (virtual time and faults).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from springtide.core.lag import Behind
from springtide.spec.job import Job
from springtide.spec.sharing import Node


@dataclass(frozen=True, slots=True)
class Task:
    """What an engine must know of a job to run it; the same for all of its replicas of one revision."""

    id: str  # of the job: unique for ever, and fit to name a folder
    job: Job  # as submitted; `folder` and `script` are as the user wrote them
    revision: int = 1  # of what replicas run; grows when the job is submitted anew with something else to run
    attempt: int = 1  # of a training job: its process is called `run_name(attempt)`
    source: Path | None = None  # the pool's copy of the submitted folder, read only; None: nothing was submitted
    script: str | None = None  # training: path of the script within `source`
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)  # file name -> content


@dataclass(frozen=True, slots=True)
class Place:
    """Where one replica runs. `replica` is unique in its job for ever; of training it names the room of one worker."""

    replica: str
    node: str
    devices: tuple[int, ...] = ()  # indices of GPUs on that node


class Phase(StrEnum):
    """Where a replica's process is in its life."""

    STARTING = "starting"  # runs, and is not ready to take work yet
    RUNNING = "running"
    STOPPING = "stopping"  # was told to end
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a replica's process ended."""

    at_s: float
    code: int | None  # None: by a signal, or nobody saw it
    cause: str  # for a person: "ended with exit code 3", "was killed by the kernel: out of memory (limit 256Mi)"
    asked: bool = False  # it had been told to stop
    tail: tuple[str, ...] = ()  # the last lines that it wrote
    result: Mapping[str, Any] | None = None  # of training: state, step, digest, message, metrics

    @property
    def good(self) -> bool:
        return self.code == 0


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """One replica's process; of a training job the one process that all its workers come from."""

    phase: Phase
    revision: int = 1
    pid: int | None = None
    node: str | None = None
    started_s: float | None = None
    exit: Exit | None = None


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker of a training run: its share of a step's microbatches."""

    pid: int
    share: float


@dataclass(frozen=True, slots=True)
class TrainingSeen:
    """What the arena of a training run says."""

    step: int = 0
    steps: int | None = None
    loss: float | None = None
    microbatches: int | None = None
    supervisor: int | None = None
    workers: tuple[WorkerSeen, ...] = ()
    step_s: Mapping[int, float] = field(default_factory=dict)  # workers -> median seconds of a step, of late
    resumed_step: int = 0  # at which this process began


@dataclass(frozen=True, slots=True)
class Used:
    """What a job has used since it was first started (totals never fall), and the memory it holds now."""

    cpu_s: float = 0.0
    gpu_s: float = 0.0
    memory_bytes: int = 0
    disk_bytes: int = 0
    network_bytes: int = 0


@dataclass(frozen=True, slots=True)
class LoadSeen:
    """What a service is asked to carry, all replicas together, since the last look."""

    rate: float
    unit: str  # "requests" per second, "cores", or "records" that wait
    behind: Behind | None = None  # of a stream: all that its need follows from


@dataclass(frozen=True, slots=True)
class JobSeen:
    """One job. Replicas that ended stay until `forget`."""

    replicas: Mapping[str, ReplicaSeen] = field(default_factory=dict)
    training: TrainingSeen | None = None
    used: Used = Used()
    load: LoadSeen | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the people of a job should know: who floods his log, whose scratch is full."""

    job: str
    at_s: float
    sentence: str


@dataclass(frozen=True, slots=True)
class Observation:
    """What is, by job id; a job of which an engine knows nothing is not there. Notices are handed out once."""

    jobs: Mapping[str, JobSeen] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()


def run_name(attempt: int) -> str:
    """The name of a training job's process among its replicas."""
    return f"run-{attempt}"


class Engine(Protocol):
    """Where replicas run. All but `wait` return at once; `Refused` says in one sentence why something is not done."""

    def nodes(self) -> Sequence[Node]:
        """What there is."""

    def overcommitted(self) -> str | None:
        """In one sentence, what nodes promise together beyond the machine; speeds measured there are not learnt."""

    def observe(self) -> Observation: ...

    def start(self, task: Task, places: Sequence[Place]) -> None:
        """Replicas, one per place; of training one process with that many workers. What is known already is left."""

    def resize(self, task: Task, places: Sequence[Place]) -> None:
        """Of training that runs: as many workers as places, fewer at once, more as soon as they are warm."""

    def stop(self, job: str, replicas: Sequence[str], grace_s: float) -> None:
        """These replicas are told to end, and made to when the time is over; training writes a checkpoint first."""

    def rest(self, job: str) -> None:
        """Nothing of the job runs, and nothing will for a while: its socket is closed. What it keeps on disk stays."""

    def forget(self, job: str, replicas: Sequence[str] | None = None) -> None:
        """The ends of these replicas are on record, and no longer told; None: the job is over, nothing of it stays."""

    def wait(self, timeout_s: float) -> None:
        """Until something happened here, `wake` was called, or the time is over."""

    def wake(self) -> None:
        """From any thread: whoever waits comes back."""

    def close(self) -> None:
        """The pool leaves; what runs goes on."""
