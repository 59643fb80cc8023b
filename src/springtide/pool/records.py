"""What the pool keeps: one record per job and per replica, as they lie in the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from springtide.spec.job import Job
from springtide.spec.quantities import Range


class State(StrEnum):
    """Where a job is in its life; the last three are its ends."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        return self in (State.DONE, State.FAILED, State.CANCELLED)


class Wish(StrEnum):
    """What the job's owner wants; only the owner changes it, only the loop changes `State`."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class Step(StrEnum):
    """How far a replica has come between plan and process."""

    ASSIGNED = "assigned"  # the plan gave it a place; it starts as soon as who had the place before is gone
    STARTED = "started"  # the engine was told to start it
    STOPPING = "stopping"  # the plan took its place; the engine was told to end it


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """A replica that is planned, runs, or is on its way out; one that has ended has no record."""

    id: str  # unique in its job for ever: "r12"
    node: str
    devices: tuple[int, ...] = ()
    step: Step = Step.ASSIGNED
    revision: int = 1  # of the job, that it runs
    since_s: float = 0.0  # of its `step`


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as the pool knows it. Times are unix seconds."""

    id: str  # "web-17": unique for ever
    job: Job
    submitted_s: float
    by: str = ""  # who submitted it
    source: str | None = None  # digest of the submitted folder
    script: str | None = None  # training: the script's path within the folder
    wish: Wish = Wish.RUN
    pinned: Range | None = None  # replicas as set by `resize`; None: as the job says
    revision: int = 1  # of what replicas run
    version: int = 1  # grows with each change by its owner: the ETag
    # From here on the loop's own:
    state: State = State.WAITING
    reason: str = ""  # why it is as it is, in one sentence
    attempt: int = 0  # training: how often its process was started
    failures: int = 0  # in a row
    serial: int = 0  # the last number given to a replica
    retry_at_s: float = 0.0  # not started before: back-off after a failure
    started_s: float | None = None
    finished_s: float | None = None
    suspended_s: float | None = None
    resized_s: float | None = None
    attained_s: float = 0.0  # replica-seconds that it held
    result: Mapping[str, Any] | None = None  # at the end: exit code, or of training step, digest, metrics
    learned: Mapping[str, Any] = field(default_factory=dict)  # microbatches, steps, seconds of a step by workers
    replicas: tuple[ReplicaRecord, ...] = ()

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def range(self) -> Range:
        """Between how many replicas it may have now."""
        return self.pinned or self.job.replicas
