"""What the planner sees: nodes, teams, jobs and who holds what, as columns of arrays, at one moment.

A snapshot is read only. `Cluster` keeps one up to date between passes at the cost of what changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from springtide.core.curves import Curves
from springtide.core.fragments import Mix
from springtide.core.loads import Loads
from springtide.core.market import Prices
from springtide.core.resources import BoolArray, FloatArray, IntArray
from springtide.core.settings import Settings

SERVICE, STREAM, BATCH, TRAINING = range(4)
KIND_NAMES = ("service", "stream", "batch", "training")
GONE = -1  # the kind of a row that holds no job
ANYHOW, SPREAD, PACK = range(3)  # how a job's replicas are arranged: as fits best, over many nodes, on few


class Slot(NamedTuple):
    """Where one replica runs: the node's row, and its GPU devices there as bits (0 for none)."""

    node: int
    devices: int = 0


@dataclass(frozen=True, slots=True)
class Nodes:
    """N nodes. `group[n]` names a set of labels shared by many nodes, so that wishes are matched once per set."""

    names: Sequence[str]
    capacity: FloatArray  # (N, 5); inf where a resource is not limited
    device_count: IntArray  # (N,)
    group: IntArray  # (N,) -> labels
    labels: Sequence[Mapping[str, str]]
    alive: BoolArray  # (N,); nothing is placed on a node that is lost or being emptied

    def total(self) -> FloatArray:
        """(5,) capacity of the living nodes together."""
        total: FloatArray = self.capacity[self.alive].sum(axis=0)
        return total


@dataclass(frozen=True, slots=True)
class Teams:
    """T teams; `parent[t]` is -1 for a team under nobody."""

    names: Sequence[str]
    parent: IntArray
    guarantee: FloatArray  # (T, 5)
    borrow: FloatArray  # (T, 5); inf where borrowing is not limited
    weight: FloatArray  # (T,)
    budget: FloatArray  # (T,); inf where none is set
    history: FloatArray  # (T,) dominant-share seconds used before, decayed with `Settings.history_half_life_s`
    spent: FloatArray = field(default_factory=lambda: np.zeros(1))  # (T,), or (1,) for all: money, of the budget


@dataclass(frozen=True, slots=True)
class Shapes:
    """S distinct requests of one replica; many jobs share one, and what does not fit is looked up once per pass."""

    request: FloatArray  # (S, 5)
    wishes: Sequence[Mapping[str, tuple[str, ...]]]  # required label -> values of which a node must have one
    prefers: Sequence[Mapping[str, tuple[str, ...]]]  # the same of labels that a node had better have
    arrange: IntArray  # (S,) ANYHOW, SPREAD or PACK
    seen: FloatArray  # (S,) replicas that have arrived
    mix: Mix  # the mix of work as learnt so far: `seen` as it was when it had last grown by a half


@dataclass(frozen=True, slots=True)
class Jobs:
    """J rows, one per job; rows of kind GONE hold none. Times are seconds on the snapshot's clock."""

    names: Sequence[str]
    kind: IntArray
    priority: IntArray  # 3 production, 2 standard, 1 experiment, 0 spot
    team: IntArray
    shape: IntArray
    minimum: IntArray
    maximum: IntArray
    running: IntArray  # replicas held now
    curve: IntArray  # -> Curves
    submitted_s: FloatArray
    started_s: FloatArray  # nan before the first start
    remaining_s: FloatArray  # work left, in seconds of one replica alone; nan where unknown
    attained_s: FloatArray  # replica-seconds had so far
    unsaved_s: FloatArray  # replica-seconds that are lost when the job is stopped now; 0 for elastic training
    suspended_s: FloatArray  # when it was last suspended whole; -inf for never
    resized_s: FloatArray  # when its size last changed; -inf for never
    restart_s: FloatArray  # what a change of its size costs it, learnt
    deadline_s: FloatArray  # inf where none
    bid_core: FloatArray  # spot: per core-hour
    bid_gpu: FloatArray  # spot: per gpu-hour
    stages: FloatArray  # (J, 4) seconds of an iteration spent on disk, cpu, gpu, network; nan where unknown
    loads: Loads = field(default_factory=Loads)  # of services: row -> measured load


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that `plan` may know."""

    now_s: float
    nodes: Nodes
    teams: Teams
    shapes: Shapes
    curves: Curves
    jobs: Jobs
    held: Sequence[tuple[Slot, ...]]  # per job row
    free: FloatArray  # (N, 5)
    device_free: (
        FloatArray  # (N, D) of each device; below 0 where jobs with different stages take turns; -inf: no such device
    )
    prices: Prices
    settings: Settings

    def live(self) -> IntArray:
        """Rows that hold a job."""
        return np.flatnonzero(self.jobs.kind != GONE)
