"""How much of the disk replicas hold in their scratch folders, and who holds too much."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

USUAL_BYTES = 10 * 2**30  # where a job does not say


@dataclass(frozen=True, slots=True)
class Watched:
    """One replica: what counts as its scratch, and how much that may hold."""

    job: str
    replica: str
    folders: tuple[Path, ...]
    most_bytes: float = USUAL_BYTES


@dataclass(frozen=True, slots=True)
class Offence:
    """Whose replica is to be killed, and the cause as people read it."""

    job: str
    replica: str
    cause: str


class Guard:
    """A thread of its own walks the folders, with pauses by what a walk costs; `tell` is called when it found one."""

    def __init__(self, tell: Callable[[], None]) -> None: ...

    def watch(self, watched: Iterable[Watched]) -> None:
        """From now on these, and no others."""

    def offences(self) -> list[Offence]:
        """Found since the last call; each is told once."""
        return []

    def close(self) -> None:
        """The thread has ended."""
