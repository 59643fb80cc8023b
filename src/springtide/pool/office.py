"""What the operations of the API work on: the store and its neighbours, the loop, and who may see which team."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from springtide.pool.access import Identity, Scope, Tree, teams_with
from springtide.pool.answers import Answers
from springtide.pool.audit import Audit
from springtide.pool.live import Live
from springtide.pool.rows import Row
from springtide.pool.sources import Sources
from springtide.pool.store import Store
from springtide.pool.tokens import Tokens
from springtide.pool.vault import Vault
from springtide.spec.files import pool_from_text
from springtide.spec.sharing import DEFAULT_TEAM, Pool, Team


class Seal(Protocol):
    """Called once by each operation that changes something, within its transaction: the answer and the audit's line."""

    def __call__(self, answer: Row, team: str | None = None, job: str | None = None) -> None: ...


def unsealed(answer: Row, team: str | None = None, job: str | None = None) -> None:
    """Where neither is kept."""
    del answer, team, job


@dataclass(frozen=True, slots=True)
class Office:
    """One per server; used by many threads."""

    store: Store
    live: Live
    sources: Sources
    tokens: Tokens
    vault: Vault
    audit: Audit
    answers: Answers
    clock: Callable[[], float]

    @staticmethod
    def of(store: Store, live: Live, sources: Sources, clock: Callable[[], float]) -> Office:
        base = store.database
        return Office(
            store,
            live,
            sources,
            Tokens(base, clock),
            Vault(base, clock),
            Audit(base, clock),
            Answers(base, clock),
            clock,
        )

    def rules(self) -> Pool:
        """Teams and rules as administrators have said them last; the loop may be a moment behind. No nodes."""
        return read_rules(self.store.kept("pool"))

    def teams(self) -> tuple[Team, ...]:
        """Every team there is, the default one first."""
        said = self.rules().teams
        missing = () if any(team.name == DEFAULT_TEAM for team in said) else (Team(name=DEFAULT_TEAM),)
        return (*missing, *said)

    def tree(self) -> Tree:
        return Tree.of(self.rules())

    def drained(self) -> list[str]:
        """Names of nodes that are being emptied."""
        return [str(name) for name in self.store.kept("drained") or []]

    def seen_by(self, who: Identity, least: Scope = Scope.VIEWER) -> frozenset[str] | None:
        """The teams of which somebody may see what that scope shows; None for all."""
        return teams_with(who, least, self.tree())


def read_rules(kept: Mapping[str, Any] | None) -> Pool:
    """What was kept of a pool's teams and rules."""
    return _rules(json.dumps(kept)) if kept else Pool()


@lru_cache(maxsize=4)
def _rules(text: str) -> Pool:
    return pool_from_text(text, "pool", nodes_elsewhere=True)
