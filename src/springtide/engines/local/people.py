"""A user id for each team, where `tide up --user-per-team` was asked for as root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Person:
    """Whose a team's processes are. `home` holds what is the team's own, its /tmp among it."""

    uid: int
    gid: int
    home: Path

    def become(self, shown: tuple[Path, ...] = ()) -> None:
        """In the child before it becomes the program: a private /tmp, then this user, for ever. Raises OSError.

        `shown`: folders below /tmp that stay visible behind the private one.
        """
        raise NotImplementedError


class People:
    """Who is who, kept in a file; a number is never given twice."""

    def __init__(self, folder: Path) -> None: ...

    def person(self, team: str) -> Person:
        """The team's user; made when first asked for."""
        raise NotImplementedError


def refusal(interpreter: Path, folders: tuple[Path, ...] = ()) -> str | None:
    """Why a team's user could not run this interpreter or reach these folders, in one sentence; None: it can."""
    raise NotImplementedError
