"""Who did what: one line for each call that changes something, also for those that were refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from springtide.pool.database import Database


@dataclass(frozen=True, slots=True)
class Entry:
    """`team` is None for what concerns the whole pool."""

    id: int
    time_s: float
    who: str
    what: str
    team: str | None
    job: str | None


class Audit:
    """The record of the store; written in the transaction of what it tells of."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def note(self, who: str, what: str, team: str | None = None, job: str | None = None) -> None:
        with self._database.writing() as rows:
            rows.execute(
                "INSERT INTO audit (time_s, who, what, team, job) VALUES (?, ?, ?, ?, ?)",
                (self._clock(), who, what, team, job),
            )

    def entries(self, teams: Iterable[str] | None, after: int = 0, limit: int = 100) -> list[Entry]:
        """Of some teams (None: all, and the pool itself), oldest first."""
        where, values = ["id > ?"], list[Any]([after])
        if teams is not None:
            chosen = sorted(teams)
            where.append(f"team IN ({','.join('?' * len(chosen))})")
            values += chosen
        with self._database.reading() as rows:
            found = rows.execute(
                f"SELECT id, time_s, who, what, team, job FROM audit WHERE {' AND '.join(where)} ORDER BY id LIMIT ?",
                (*values, limit),
            ).fetchall()
        return [Entry(*row) for row in found]
