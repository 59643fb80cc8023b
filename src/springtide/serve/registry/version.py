"""What is known of a version, of a change of stages, and of a server that attends. Plain values, JSON both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from springtide.serve.registry.stages import Moves, Stage


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a version came from. `offsets`: stream URL -> partition -> the offset of the first record not in it."""

    job: str | None = None
    run_id: str | None = None
    step: int | None = None
    data_fingerprint: str | None = None
    offsets: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    parent: int | None = None  # the version that was production when this one was added
    code_digest: str | None = None
    source: str | None = None  # the file or checkpoint that it was read from


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of a model. `digest` names weights, code, build and config together."""

    name: str
    number: int
    stage: Stage
    digest: str
    build: str  # "module:function"
    config: Mapping[str, Any]
    metrics: Mapping[str, float]
    lineage: Lineage
    created_s: float
    by: str
    path: Path  # model.safetensors, build.json and code/
    inputs: tuple[str, ...]  # the parameters of the module's forward


@dataclass(frozen=True, slots=True)
class Change:
    """A change of stages: what was done, by whom, when and why; `before` was production until then."""

    id: int
    name: str
    number: int
    action: str  # "add", "promote", "rollback", "archive" or "undo"
    by: str
    time_s: float
    why: str
    moves: Moves
    before: int | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Attendant:
    """A server that answers with a model, and listens on its admin socket for "look again"."""

    name: str
    admin: Path
    pid: int
    started: int  # in clock ticks since boot, so that a pid used again is not taken for it
