"""What the API may ask of the running loop; everything else it reads from the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from springtide.core.explain import Explanation
from springtide.core.forward import Forecast
from springtide.core.market import Prices
from springtide.engines.engine import Observation
from springtide.spec.job import Job
from springtide.spec.resources import Resources
from springtide.spec.sharing import Pool


@dataclass(frozen=True, slots=True)
class TeamUse:
    """What a team's jobs hold now, its dominant share of the pool, and the money it has spent."""

    held: Resources
    share: float
    spent: float


class Live(Protocol):
    """The loop, as other threads see it. Every call returns at once, or after some passes of the planner."""

    def wake(self) -> None:
        """Something in the store has changed: plan now."""

    def pool(self) -> Pool:
        """Nodes (those being emptied too), teams and rules, as they are planned with."""

    def observation(self) -> Observation:
        """The newest look at the engine; training's steps and workers are read anew."""

    def team_use(self) -> Mapping[str, TeamUse]: ...

    def prices(self) -> Prices: ...

    def explain(self, job_id: str) -> Explanation | None:
        """None: the job is over or not planned yet."""

    def forecast(self, job_id: str) -> Forecast | None: ...

    def what_if(self, jobs: Sequence[Job]) -> list[Forecast]:
        """Of jobs that are not there, each as if all of them were submitted now."""
