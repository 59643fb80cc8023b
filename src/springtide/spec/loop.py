"""A loop: a model that is trained, checked, served, corrected by its users and trained further, for ever."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from springtide.spec.job import Load, Priority
from springtide.spec.quantities import Every, Range
from springtide.spec.resources import Resources

ONE, ONE_CORE = Range(1, 1), Resources(cpu=1.0)
EACH_HALF_MINUTE = Every(seconds=30.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulk:
    """What is trained on before anybody corrects anything: it stands at the beginning of the training stream."""

    data: str  # a JSONL file of records as training sees them; absolute when read from a file
    passes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the model is trained: a script over `data.stream(...)` that never ends, elastic as any training."""

    script: str  # absolute when read from a file
    args: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    workers: Range = ONE
    resources: Resources = ONE_CORE  # of one worker
    priority: Priority = Priority.EXPERIMENT
    every: Every = EACH_HALF_MINUTE  # between two checkpoints
    keep: int = 3
    microbatches: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What a candidate must show before it serves: the numbers of production on the same records, less a margin."""

    data: str | None = None  # records that are always held out, beside the held-out stream; absolute when read
    scorer: str | None = None  # module:function(module, records); None: the module's own evaluate(records)
    metric: str = "accuracy"  # what is held against production's
    better: Literal["higher", "lower"] = "higher"
    margin: float = 0.0  # by how much it may be worse
    bound: float | None = None  # what it must reach, also where nothing is in production
    count: int = 20  # records on which it is measured at least
    slices: tuple[str, ...] = ()  # parts on which it must not be worse either; "*" is all of them
    slice_margin: float | None = None  # None: as margin
    slice_count: int = 1
    recent: int = 1000  # of the held-out stream, how many of the latest records are judged on
    every_s: float = 60.0  # between two examinations at least
    resources: Resources = ONE_CORE  # of the process that watches, and judges
    timeout_s: float = 600.0  # of one examination


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the model in production is served."""

    port: int
    replicas: Range = ONE
    resources: Resources = ONE_CORE
    priority: Priority = Priority.PRODUCTION
    load: Load | None = None
    sample: float = 1.0  # share of the answered requests that are kept in the stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """When inputs count as different from those of the training, and answers as less often right than before."""

    window: int = 1000  # requests, and corrections, that are looked at together
    inputs: float = 0.25  # population stability index of a field
    accuracy: float = 0.1  # by how much the share of right answers falls
    answer: str | None = None  # the field of an output that is held against the correction; None: all of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """One file of `kind: loop`."""

    kind: Literal["loop"] = "loop"
    name: str
    build: str  # module:function that makes the module
    train: Training
    serve: Serving
    team: str = "default"
    model: str | None = None  # its name in the registry; None: the loop's
    config: Mapping[str, Any] = field(default_factory=dict)  # for `build`
    source: str | None = None  # the stream of requests and feedback; None: a log in the loop's own folder
    bulk: Bulk | None = None
    prepare: str | None = None  # module:function, one joined record in, what training is to see out
    gate: Gate = Gate()
    drift: Drift = Drift()
    folder: str | None = None  # of its code; absolute when read from a file
    python: str | None = None

    @property
    def model_name(self) -> str:
        """What the registry calls its model."""
        return self.model or self.name

    def job(self, part: str) -> str:
        """The name of one of its jobs: serve, train, prepare or circle."""
        return f"{self.name}-{part}"
