"""What is played: nodes, jobs that arrive, loads that change, nodes that fail, and the world where that happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from springtide.core.market import Prices
from springtide.core.resources import FloatArray
from springtide.core.snapshot import ANYHOW, TRAINING, Nodes, Teams
from springtide.sim.world import Steady, World

if TYPE_CHECKING:
    from springtide.sim.engine import Policy

Progress = Callable[[float], None]  # hears the share of the play that is over


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One job of a trace. `work_s` is what there is to do, in seconds of one replica alone."""

    name: str
    submit_s: float
    request: FloatArray  # (5,) of one replica
    work_s: float = float("inf")  # inf: runs until `leave_s`
    leave_s: float = float("inf")  # when it is taken away, done or not
    kind: int = TRAINING
    minimum: int = 1
    maximum: int = 1
    team: int = 0
    priority: int = 1
    work_known: bool = True  # whether the planner is told `work_s`
    speeds: FloatArray | None = None  # (maximum + 1,) relative to one replica; None: in proportion
    apart: float = 1.0  # share of `speeds` that is left on more nodes than it needs
    curve_known: bool = True  # whether the planner is told `speeds` and `apart`
    stages: FloatArray | None = None  # (4,) seconds of an iteration on disk, cpu, gpu, network
    bid_core: float = 0.0
    bid_gpu: float = 0.0
    deadline_s: float = float("inf")
    wishes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    prefers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    arrange: int = ANYHOW
    per_replica: float = 1.0  # services: what one replica carries
    headroom: float | None = None  # services: share of the wanted replicas kept beside them; None: the planner's
    pattern: FloatArray | None = None  # services: (load.BINS,) of the week, as its owner states it
    follows: str = ""  # leaves when the task of this name is over; that one is waiting until this one runs too
    checkpoint_s: float = 600.0  # between two checkpoints: what dies with all its replicas goes back to the last one
    model: str = ""  # what it trains, where the world's speeds depend on it
    asked: int = 1  # replicas that its owner asked for, where a policy does not resize
    trial: bool = False  # a short run whose owner waits for it
    place: str = ""  # file and line where it stands


@dataclass(frozen=True, slots=True)
class LoadChange:
    """From `at_s` on, a service is asked to carry `rate`."""

    at_s: float
    service: str
    rate: float


@dataclass(frozen=True, slots=True)
class Resize:
    """From `at_s` on, its owner asks for exactly so many replicas of a task."""

    at_s: float
    task: str
    replicas: int


@dataclass(frozen=True, slots=True)
class Outage:
    """A node is gone from `at_s` until `back_s`."""

    node: int
    at_s: float
    back_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A piece of work for `simulate`."""

    name: str  # as it stands in the table
    nodes: Nodes
    tasks: Sequence[Task]
    teams: Teams | None = None
    loads: Sequence[LoadChange] = ()
    resizes: Sequence[Resize] = ()
    outages: Sequence[Outage] = ()
    prices: Prices | None = None  # the spot market's floors
    world: World = field(default_factory=Steady)
    leave_s: float = 0.0  # for which a replica that is stopped keeps what it had
    round_s: float = 0.0  # policies plan at multiples of it; 0: whenever something happened
    tick_s: float = 0.0  # policies plan at multiples of it too, though nothing happened; 0: they do not
    end_s: float = float("inf")  # the play ends here, or when all tasks are done
    window_s: tuple[float, float] | None = None  # shares are means over it; None: from first to last submission
    seeded: bool = False  # whether the seed makes a difference; where it does not, one seed is played
    # A work of another kind brings its own play: metrics by name, for one policy. None: the engine's.
    play: Callable[[Trace, Policy, Progress], Mapping[str, float]] | None = None
    note: str = ""  # what must be said beside its figures, for example "bound, not simulated"
    published: Mapping[tuple[str, str], float] = field(default_factory=dict)  # (policy, metric) -> what others reported

    def total(self) -> FloatArray:
        """(5,) capacity of all nodes."""
        total: FloatArray = np.asarray(self.nodes.capacity.sum(axis=0))
        return total
