"""Who may do what, as one table: the operations of the API, and the scope that each wants. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum

from springtide.pool.refusals import Forbidden, Unauthenticated
from springtide.spec.sharing import DEFAULT_TEAM, Pool

EVERYWHERE = "*"  # stands above all teams: an admin of it is the pool's admin


class Scope(IntEnum):
    """What a token allows in a team and in all teams below it; each includes those before it."""

    VIEWER = 1
    MEMBER = 2
    ADMIN = 3

    def __str__(self) -> str:
        return self.name.lower()


class On(Enum):
    """Where the scope must be held."""

    NOTHING = "nothing"  # anybody may, also without a name
    ANY = "any"  # in some team; what is answered is then only of teams where it is held
    TEAM = "team"  # in the team that the operation is about
    POOL = "pool"  # above all teams


@dataclass(frozen=True, slots=True)
class Rule:
    """The least scope for an operation, and where it must be held."""

    least: Scope
    on: On


_VIEW, _WORK, _RULE = (Rule(scope, On.TEAM) for scope in Scope)
_SEE, _BRING, _LOOK_AFTER = (Rule(scope, On.ANY) for scope in Scope)
_OWN = Rule(Scope.ADMIN, On.POOL)
_OPEN = Rule(Scope.VIEWER, On.NOTHING)

RULES: Mapping[str, Rule] = {
    "health": _OPEN,
    "openapi": _OPEN,
    "jobs.list": _SEE,
    "jobs.submit": _WORK,
    "jobs.show": _VIEW,
    "jobs.update": _WORK,
    "jobs.cancel": _WORK,
    "jobs.retry": _WORK,
    "jobs.replicas": _VIEW,
    "jobs.logs": _VIEW,
    "jobs.explain": _VIEW,
    "jobs.forecast": _VIEW,
    "events.list": _SEE,
    "nodes.list": _SEE,
    "nodes.update": _OWN,
    "teams.list": _SEE,
    "teams.set": _RULE,  # of the team above it: nobody raises his own guarantee
    "tokens.list": _LOOK_AFTER,
    "tokens.new": _RULE,
    "tokens.revoke": _RULE,
    "secrets.list": _WORK,
    "secrets.set": _RULE,
    "secrets.remove": _RULE,
    "usage": _SEE,
    "prices": _SEE,
    "prices.would-buy": _SEE,
    "models.list": _SEE,
    "models.show": _SEE,
    "models.versions": _SEE,
    "models.promote": _OWN,
    "models.rollback": _OWN,
    "audit": _LOOK_AFTER,
    "sources.put": _BRING,
    "sources.head": _BRING,
    "metrics": Rule(Scope.VIEWER, On.POOL),
    "down": _OWN,
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: a name for the audit, and the scope held in each team (`EVERYWHERE` for all)."""

    name: str
    scopes: Mapping[str, Scope] = field(default_factory=dict)
    trusted: bool = False  # the machine's own administrator: not held to a rate


NOBODY = Identity("nobody")


@dataclass(frozen=True, slots=True)
class Tree:
    """Which teams there are, and the team above each."""

    above: Mapping[str, str | None] = field(default_factory=lambda: {DEFAULT_TEAM: None})

    @staticmethod
    def of(pool: Pool) -> Tree:
        return Tree({DEFAULT_TEAM: None} | {team.name: team.parent for team in pool.teams})

    def chain(self, team: str) -> tuple[str, ...]:
        """The team, those above it, and what stands above all."""
        found: list[str] = []
        at: str | None = team
        while at is not None and at not in found:
            found.append(at)
            at = self.above.get(at)
        return (*found, EVERYWHERE)


def scope_in(identity: Identity, team: str, tree: Tree) -> Scope | None:
    """The scope held in a team: the greatest of those held in it and above it; None for none."""
    return max((identity.scopes[one] for one in tree.chain(team) if one in identity.scopes), default=None)


def holds(identity: Identity, least: Scope, team: str, tree: Tree) -> bool:
    found = scope_in(identity, team, tree)
    return found is not None and found >= least


def teams_with(identity: Identity, least: Scope, tree: Tree) -> frozenset[str] | None:
    """The teams in which that scope is held; None for all, also for those that are no longer there."""
    if identity.scopes.get(EVERYWHERE, 0) >= least:
        return None
    named = {team for team, scope in identity.scopes.items() if scope >= least}
    return frozenset(named | {team for team in tree.above if holds(identity, least, team, tree)})


def may(identity: Identity, operation: str, tree: Tree, team: str | None = None) -> bool:
    """Whether an operation is allowed; `team` None: whether it is for some team at all."""
    rule = RULES[operation]
    if rule.on is On.NOTHING:
        return True
    if rule.on is On.POOL:
        return identity.scopes.get(EVERYWHERE, 0) >= rule.least
    if rule.on is On.ANY or team is None:
        return any(scope >= rule.least for scope in identity.scopes.values())
    return holds(identity, rule.least, team, tree)


def require(identity: Identity, operation: str, tree: Tree, team: str | None = None) -> None:
    """Forbidden, Unauthenticated: it is not allowed; the sentence says what would be needed."""
    if may(identity, operation, tree, team):
        return
    if identity == NOBODY:
        raise Unauthenticated("this pool wants a token; set TIDE_TOKEN to one that `tide token new` has shown")
    rule = RULES[operation]
    where = "of the whole pool" if rule.on is On.POOL else f"of team {team}" if team else "of a team"
    has = scope_in(identity, team, tree) if team else max(identity.scopes.values(), default=None)
    held = f"has the scope {has} there" if has else "has no scope there"
    raise Forbidden(f"{operation} wants the scope {rule.least} {where}, and {identity.name} {held}")
