"""What is shared, and by whom: nodes, teams, and the pool that they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from springtide.spec.job import Bid
from springtide.spec.resources import Resources

DEFAULT_TEAM = "default"  # whose a job is when nothing is said; always there
FREE = Bid()


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """Who pays. A team under a parent shares in what the parent has; its guarantee is part of the parent's."""

    name: str
    parent: str | None = None
    guarantee: Resources | None = None
    weight: float = 1.0  # of its share in what nobody is guaranteed
    borrow: Resources | None = None  # the most beyond the guarantee, `math.inf` where not limited; None: unlimited
    budget: float | None = None  # money for spot jobs; None: no limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine. What it is not said to have too little of (`math.inf`) is not limited."""

    name: str
    resources: Resources
    labels: Mapping[str, str] = field(default_factory=dict)
    gpu_model: str | None = None

    def all_labels(self) -> dict[str, str]:
        """What placement wishes are held against: its labels, and `node` and `gpu_model`, which it has by itself."""
        model = {"gpu_model": self.gpu_model} if self.gpu_model else {}
        return {**self.labels, **model, "node": self.name}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """All nodes under one planner, and the rules of sharing them."""

    nodes: tuple[Node, ...] = ()
    teams: tuple[Team, ...] = ()
    floor: Bid = FREE  # the least that spot jobs pay
    headroom: float = 0.1  # share of a service's wanted replicas that is kept beside them
    window_s: float = 30.0  # over which a service's load is averaged
    scale_down_s: float = 300.0  # how long a service's load must have been low before a replica is taken from it
    tick_s: float = 60.0  # for which a price of the spot market holds, and what is paid for at a time
