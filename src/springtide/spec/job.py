"""A job: a range of replicas, what one of them needs, and what is wished for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, Literal

from springtide.spec.quantities import Every, Range
from springtide.spec.resources import Resources


class Kind(StrEnum):
    """What a job is: it decides what may be stopped, resized and started anew, and how."""

    TRAINING = "training"
    SERVICE = "service"
    STREAM = "stream"
    BATCH = "batch"


class Priority(IntEnum):
    """The class of a job: nobody preempts an equal or a better. `str()` is the word that users write."""

    SPOT = 0
    EXPERIMENT = 1
    STANDARD = 2
    PRODUCTION = 3

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid:
    """Money that is offered (by a spot job) or asked at least (by a pool) for a core and for a GPU, per hour."""

    per_core_hour: float = 0.0
    per_gpu_hour: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """When a training job writes checkpoints, how many it keeps, and where; None is what `tide run` does by itself."""

    every: Every | None = None
    keep: int | None = None
    folder: str | None = None  # a path or a URL


@dataclass(frozen=True, slots=True, kw_only=True)
class Deadline:
    """When a job should be done: at a time, or so long after it was submitted (exactly one of the two is set)."""

    at_s: float | None = None  # seconds since 1970, UTC
    within_s: float | None = None

    def at(self, submitted_s: float) -> float:
        """The time, in seconds since 1970, for a job that was submitted then."""
        return self.at_s if self.at_s is not None else submitted_s + (self.within_s or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """On which nodes replicas may and should run. A label may have any of the values named for it."""

    require: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prefer: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arrange: Literal["spread", "pack"] | None = None  # over many nodes, or on few; None: the planner's choice


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """What happens when a replica ends by itself; `limit` is how often it is started anew, None without end."""

    policy: Literal["never", "on-failure", "always"] = "on-failure"
    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """How much a job has to do, where that is known (exactly one of the two is set)."""

    seconds: float | None = None  # of one replica alone
    steps: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one replica of a service carries, in requests per second or as use of its cores (exactly one is set)."""

    requests_per_second: float | None = None
    cpu: float | None = None  # share of its cores at which one more replica is wanted, 0 to 1
    pattern: tuple[
        float, ...
    ] = ()  # expected load per hour of a day (24) or of a week from Monday (168); 1 is the peak
    headroom: float | None = None  # share of the wanted replicas that is kept beside them; None: the pool's
    window_s: float | None = None  # over which load is averaged; None: the pool's


ONE = Range(1, 1)
ONE_CORE = Resources(cpu=1.0)
_DEFAULT_PRIORITY = {Kind.SERVICE: Priority.STANDARD, Kind.STREAM: Priority.STANDARD}
_DEFAULT_RESTART = {
    Kind.TRAINING: Restart(policy="on-failure", limit=3),
    Kind.SERVICE: Restart(policy="always"),
    Kind.STREAM: Restart(policy="always"),
    Kind.BATCH: Restart(policy="on-failure", limit=3),
}

_MODELS_LOAD = Load(cpu=0.7)  # what a replica carries depends on the model, and is measured by its cores


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a user asks the pool to run. Priority and restart, where not said, follow from the kind; the load of a
    model's service that may grow is the use of its cores.

    What a file says is checked by the reader; an object made in Python is taken as it is, and checked when submitted.
    """

    kind: Kind
    name: str
    team: str = "default"
    priority: Priority = None  # type: ignore[assignment]  # set below: services and streams standard, others experiment
    replicas: Range = ONE
    resources: Resources = ONE_CORE  # of one replica
    script: str | None = None  # absolute when read from a file; training only
    args: tuple[str, ...] = ()  # behind the script or the command
    command: tuple[str, ...] = ()
    model: str | None = None  # a service may serve a model of the registry instead of running a command
    requests: str | None = None  # URL of the stream to which a model's requests and feedback are added
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str | None = None  # where it runs; absolute when read from a file
    data: tuple[str, ...] = ()  # paths (absolute when read from a file) or URLs
    checkpoint: Checkpoint = Checkpoint()
    deadline: Deadline | None = None
    bid: Bid | None = None  # None: a spot job pays what the floor is
    placement: Placement = field(default_factory=Placement)
    labels: Mapping[str, str] = field(default_factory=dict)
    restart: Restart = None  # type: ignore[assignment]  # set below
    python: str | None = None  # the interpreter; None: the one that runs Springtide
    image: str | None = None  # of a container, where the engine starts containers
    microbatches: int | None = None
    work: Work | None = None
    port: int | None = None
    listen: Literal["handed", "own"] = "handed"  # the pool hands the socket over, or each replica binds
    load: Load | None = None
    lag: int | None = None  # records that one replica of a stream may be behind before one more is wanted
    secrets: tuple[str, ...] = ()  # names of the team's secrets, which replicas find as files in $TIDE_SECRETS
    scratch: float | None = None  # bytes that a replica may keep in $TIDE_SCRATCH; None: the engine's default
    grace_s: float = 30.0  # between being told to end and being made to

    def __post_init__(self) -> None:
        given: Any = self.priority
        if given is None:
            object.__setattr__(self, "priority", _DEFAULT_PRIORITY.get(self.kind, Priority.EXPERIMENT))
        given = self.restart
        if given is None:
            object.__setattr__(self, "restart", _DEFAULT_RESTART[self.kind])
        if self.model is not None and self.load is None and self.replicas.maximum > self.replicas.minimum:
            object.__setattr__(self, "load", _MODELS_LOAD)
