"""Secrets of teams: values come in and go to replicas, never back to who asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from springtide.pool.database import Database
from springtide.pool.refusals import Unknown

MOST_BYTES = 64 * 1024  # of one value


@dataclass(frozen=True, slots=True)
class Secret:
    """What is told of a secret."""

    team: str
    name: str
    set_by: str
    set_s: float


class Vault:
    """The secrets of the store, which lie in its file as they are: whoever may read that file has them."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def set(self, team: str, name: str, value: bytes, by: str) -> None:
        with self._database.writing() as rows:
            rows.execute(
                "INSERT OR REPLACE INTO secrets VALUES (?, ?, ?, ?, ?)", (team, name, value, by, self._clock())
            )

    def remove(self, team: str, name: str) -> None:
        """Unknown: there is none of that name."""
        with self._database.writing() as rows:
            if not rows.execute("DELETE FROM secrets WHERE team = ? AND name = ?", (team, name)).rowcount:
                raise Unknown(f'team {team} has no secret "{name}"; `tide secret list` shows those that it has')

    def all(self, teams: Iterable[str] | None = None) -> list[Secret]:
        """Those of some teams (None: of all), by name."""
        with self._database.reading() as rows:
            found = rows.execute("SELECT team, name, set_by, set_s FROM secrets ORDER BY team, name").fetchall()
        allowed = None if teams is None else set(teams)
        return [Secret(*row) for row in found if allowed is None or row[0] in allowed]

    def values(self, team: str, names: Iterable[str]) -> Mapping[str, bytes]:
        """For a job's replicas; what is not there is left out."""
        with self._database.reading() as rows:
            found = dict(rows.execute("SELECT name, value FROM secrets WHERE team = ?", (team,)).fetchall())
        return {name: bytes(found[name]) for name in names if name in found}
