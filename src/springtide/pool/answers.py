"""Answers by idempotency key: a request sent again because its answer was lost is not carried out twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from springtide.pool.database import Database
from springtide.spec.errors import UserError

KEPT_S = 86_400.0
LONGEST_KEY = 200


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer as it was sent."""

    status: int
    body: str


class Repeated(Exception):
    """The same request is being answered at the same time: what it changed stands, what this one would is undone."""


class Answers:
    """The answers of the store, for a day each."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def find(self, who: str, key: str, request: bytes) -> Kept | None:
        """The answer to this very request (`request` is its digest). UserError: the key was used for another one."""
        with self._database.reading() as rows:
            found = rows.execute(
                "SELECT request, status, body FROM answers WHERE who = ? AND key = ? AND time_s > ?",
                (who, key, self._clock() - KEPT_S),
            ).fetchone()
        if found is None:
            return None
        if bytes(found[0]) != request:
            raise UserError("this Idempotency-Key was used for another request; make a new key for each request")
        return Kept(int(found[1]), str(found[2]))

    def keep(self, who: str, key: str, request: bytes, answer: Kept) -> None:
        """Within the transaction of what is answered. Repeated: an answer is there."""
        now_s = self._clock()
        with self._database.writing() as rows:
            rows.execute("DELETE FROM answers WHERE time_s <= ?", (now_s - KEPT_S,))
            try:
                rows.execute(
                    "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                    (who, key, request, answer.status, answer.body, now_s),
                )
            except sqlite3.IntegrityError:
                raise Repeated from None
