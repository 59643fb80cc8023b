"""Tokens: shown once, kept as a hash, each with a scope in one team and all below it."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from springtide.pool.access import Identity, Scope
from springtide.pool.database import Database
from springtide.pool.refusals import Unauthenticated, Unknown

PREFIX = "tide"
_USE_NOTED_S = 60.0  # that a token was used is written down no oftener


@dataclass(frozen=True, slots=True)
class Token:
    """What is known of a token. Times are unix seconds."""

    id: str
    team: str
    scope: Scope
    name: str
    made_by: str
    made_s: float
    expires_s: float | None
    used_s: float | None


class Tokens:
    """The tokens of the store. Of a token's secret only the hash is kept: 256 random bits need no slow one."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database, self._clock = database, clock

    def new(self, team: str, scope: Scope, name: str, made_by: str, expires_in_s: float | None) -> tuple[Token, str]:
        """A new token, and the text of it, which nobody can be shown again."""
        now_s, secret = self._clock(), secrets.token_hex(32)
        expires_s = None if expires_in_s is None else now_s + expires_in_s
        token = Token(secrets.token_hex(4), team, scope, name, made_by, now_s, expires_s, None)
        with self._database.writing() as rows:
            rows.execute(
                "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)",
                (token.id, _hash(secret), team, str(scope), name, made_by, now_s, expires_s),
            )
        return token, f"{PREFIX}_{token.id}_{secret}"

    def all(self, teams: Iterable[str] | None = None) -> list[Token]:
        """Those of some teams (None: of all), the oldest first."""
        with self._database.reading() as rows:
            found = rows.execute(f"SELECT {_COLUMNS} FROM tokens ORDER BY made_s, id").fetchall()
        allowed = None if teams is None else set(teams)
        return [token for token in map(_token, found) if allowed is None or token.team in allowed]

    def get(self, id_: str) -> Token:
        """Unknown: there is none of that id."""
        with self._database.reading() as rows:
            found = rows.execute(f"SELECT {_COLUMNS} FROM tokens WHERE id = ?", (id_,)).fetchone()
        if found is None:
            raise Unknown(f'there is no token "{id_}"; `tide token list` shows those that are there')
        return _token(found)

    def revoke(self, id_: str) -> None:
        with self._database.writing() as rows:
            rows.execute("DELETE FROM tokens WHERE id = ?", (id_,))

    def identify(self, text: str) -> Identity:
        """Whose token this is. Unauthenticated: nobody's, or it has expired."""
        prefix, _, rest = text.partition("_")
        id_, _, secret = rest.encode(errors="replace").decode().partition("_")
        with self._database.reading() as rows:
            kept = rows.execute("SELECT hash FROM tokens WHERE id = ?", (id_,)).fetchone()
        if prefix != PREFIX or not hmac.compare_digest(kept[0] if kept else b"\0" * 32, _hash(secret)):
            raise Unauthenticated("this pool does not know that token; ask for a new one with `tide token new`")
        token, now_s = self.get(id_), self._clock()
        if token.expires_s is not None and token.expires_s <= now_s:
            when = datetime.fromtimestamp(token.expires_s, UTC).strftime("%Y-%m-%d %H:%M UTC")
            raise Unauthenticated(f"this token expired on {when}; ask for a new one with `tide token new`")
        if token.used_s is None or now_s - token.used_s > _USE_NOTED_S:
            with self._database.writing() as rows:
                rows.execute("UPDATE tokens SET used_s = ? WHERE id = ?", (now_s, id_))
        # Two tokens may have one name, and must not share a rate or each other's answers.
        return Identity(f"token {token.name} ({token.id})", {token.team: token.scope})


_COLUMNS = "id, team, scope, name, made_by, made_s, expires_s, used_s"


def _token(row: tuple[Any, ...]) -> Token:
    id_, team, scope, name, made_by, made_s, expires_s, used_s = row
    return Token(id_, team, Scope[scope.upper()], name, made_by, made_s, expires_s, used_s)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
