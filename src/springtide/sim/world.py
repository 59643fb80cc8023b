"""How fast jobs run where they are: the models of the world; docs/simulator.md holds their formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from springtide.core.snapshot import Slot

if TYPE_CHECKING:
    from springtide.sim.trace import Task


class World(Protocol):
    """Speeds and the cost of changes."""

    def rate(self, task: Task, slots: Sequence[Slot], beside: Sequence[Task]) -> float:
        """Seconds of one replica's work that the job does in a second here, its devices shared with `beside`."""

    def restart_s(self, task: Task, before: Sequence[Slot], after: Sequence[Slot]) -> float:
        """Seconds for which the job stands still after its slots changed (`before` is empty at a start)."""


class Steady:
    """Speeds as the task says (else in proportion to replicas); a change costs `restart` seconds, a start `start`."""

    def __init__(self, restart: float = 0.0, start: float = 0.0) -> None:
        self._restart_s = restart
        self._start_s = start

    def rate(self, task: Task, slots: Sequence[Slot], beside: Sequence[Task]) -> float:
        if task.speeds is None:
            return float(len(slots))
        return float(task.speeds[min(len(slots), len(task.speeds) - 1)])

    def restart_s(self, task: Task, before: Sequence[Slot], after: Sequence[Slot]) -> float:
        return self._restart_s if before else self._start_s
