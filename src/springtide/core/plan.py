"""What comes out of a pass: who starts, grows, shrinks, moves or is suspended, and why; and why others wait."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from springtide.core.reasons import Reason
from springtide.core.snapshot import Slot


class Verb(StrEnum):
    """What happens to a job."""

    START = "start"  # from nothing to at least its minimum (a service: whatever fits)
    GROW = "grow"
    SHRINK = "shrink"
    SUSPEND = "suspend"  # to nothing
    MOVE = "move"  # same size, other places


@dataclass(frozen=True, slots=True)
class Action:
    """One job's change: `removed` slots are given up, `added` ones taken."""

    verb: Verb
    job: int
    added: tuple[Slot, ...]
    removed: tuple[Slot, ...]
    reason: Reason
    after: tuple[int, ...] = ()  # rows whose removals must have ended before this one's slots are free


@dataclass(frozen=True, slots=True)
class Plan:
    """The outcome of one pass, in the order in which it is to be carried out: what gives first, then what takes."""

    actions: tuple[Action, ...] = ()
    waits: Mapping[int, Reason] = field(default_factory=dict)  # row -> why it has less than it needs
    need: Mapping[int, int] = field(default_factory=dict)  # services: row -> replicas that its load needs
    core_price: float = 0.0
    gpu_price: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.actions)
