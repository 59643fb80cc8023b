"""What `tide run` was asked to do: one value, checked, that the launcher starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from springtide.spec.quantities import Blow, Every, Range


@dataclass(frozen=True, slots=True)
class LaunchOptions:
    """One launch of a training script on this machine; what is None was not said: the script or a default decides."""

    script: Path
    arguments: tuple[str, ...]
    name: str
    workers: Range
    start: int | None = None  # workers at the beginning; default: the maximum
    checkpoint: str | None = None  # a folder or an fsspec URL; default: checkpoints/ in the run's own folder
    every: Every | None = None
    fresh: bool = False  # begin anew even where a checkpoint of this name could be resumed
    seed: int | None = None
    sample: float | None = None  # fraction of the data
    chaos: tuple[Blow, ...] = ()
    keep: int | None = None  # checkpoints to retain
    threads: int | None = None  # per worker; part of the run's identity
