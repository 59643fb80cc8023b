"""What cannot be right about a pool, or about jobs in a pool, and what had better be known. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from springtide.spec.errors import UserError
from springtide.spec.job import Job, Kind
from springtide.spec.quantities import nearest
from springtide.spec.resources import RESOURCES, Resources
from springtide.spec.room import Room, amount_text
from springtide.spec.sharing import DEFAULT_TEAM, Node, Pool, Team

_SLACK = 1e-9  # sums of guarantees may differ from the whole by rounding


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one thing: ("team", its name), or ("job", ...), and one sentence."""

    thing: tuple[str, str]
    field: str
    sentence: str

    def __str__(self) -> str:
        return f"{' '.join(self.thing)}: {self.field}: {self.sentence}"


def check_pool(pool: Pool, where: str = "") -> None:
    """Raises UserError with all that cannot be right about nodes and teams together, a line for each."""
    _raise(problems(pool), where)


def check_jobs(jobs: Iterable[Job], pool: Pool, place: Callable[[str, str], str] | None = None) -> list[str]:
    """Raises UserError for jobs that this pool could never run; returns warnings, a sentence each.

    `place(job, field)` says where a field stands in a file (`JobFile.place`).
    """
    said: list[Problem] = []
    warnings: list[Problem] = []
    room = Room(pool.nodes)
    for job in jobs:
        said += _team_of(job, pool)
        if why := room.lacking(job):
            said.append(Problem(("job", job.name), *why))
        warnings += _promised(job, pool)
    _raise(said, "", place)
    return [_line(problem, "", place) for problem in warnings]


def problems(pool: Pool) -> list[Problem]:
    """All that cannot be right about nodes and teams together."""
    return [*_twice(pool), *_parents(pool), *_guarantees(pool)]


def _raise(found: list[Problem], where: str, place: Callable[[str, str], str] | None = None) -> None:
    if found:
        raise UserError("\n".join(_line(problem, where, place) for problem in found))


def _line(problem: Problem, where: str, place: Callable[[str, str], str] | None) -> str:
    if place:
        return f"{place(problem.thing[1], problem.field)}: {problem}"
    return f"{where}: {problem}" if where else str(problem)


def _twice(pool: Pool) -> list[Problem]:
    seen: set[tuple[str, str]] = set()
    found = []
    for thing in [*(("node", node.name) for node in pool.nodes), *(("team", team.name) for team in pool.teams)]:
        if thing in seen:
            found.append(Problem(thing, "name", f"there are two {thing[0]}s of this name; rename one"))
        seen.add(thing)
    return found


def _parents(pool: Pool) -> list[Problem]:
    parents = {team.name: team.parent for team in pool.teams}
    found = []
    said: set[str] = set()
    for team in pool.teams:
        if team.parent is not None and team.parent not in parents:
            hint = nearest(team.parent, parents) or "; add it, or remove this line"
            found.append(Problem(("team", team.name), "parent", f'there is no team "{team.parent}"{hint}'))
        circle = _circle(team.name, parents)
        if circle and not said & set(circle):
            said |= set(circle)
            way = " under ".join([*circle, circle[0]])
            found.append(Problem(("team", circle[0]), "parent", f"the teams form a cycle, {way}; remove one parent"))
    return found


def _circle(name: str, parents: Mapping[str, str | None]) -> list[str]:
    """The teams of the circle in which this one stands, or none."""
    way = [name]
    while (above := parents.get(way[-1])) is not None and above not in way:
        way.append(above)
    return way if above == name else []


def _guarantees(pool: Pool) -> list[Problem]:
    """Nobody's guarantee is promised on to more than it holds, and the pool's nodes hold all of them."""
    named = {team.name: team for team in pool.teams}
    drawing: dict[str | None, list[Team]] = {}
    for team in pool.teams:
        if team.guarantee:
            drawing.setdefault(_source(team, named), []).append(team)
    found = []
    for source, teams in drawing.items():
        has = named[source].guarantee if source else None
        whose = f"team {source} is guaranteed" if source else "the pool has"
        found += _beyond(teams, has or _total(pool.nodes), whose)
    return found


def _source(team: Team, named: Mapping[str, Team]) -> str | None:
    """The nearest team above whose guarantee this one's is a part of; None: the pool."""
    seen = {team.name}
    above = team.parent
    while above is not None and above in named and above not in seen:
        if named[above].guarantee:
            return above
        seen.add(above)
        above = named[above].parent
    return None


def _beyond(teams: list[Team], has: Resources, whose: str) -> list[Problem]:
    found = []
    for resource in RESOURCES:
        promised = [(team.name, getattr(team.guarantee, resource)) for team in teams]
        total = math.fsum(amount for _, amount in promised)
        limit = getattr(has, resource)
        if total > limit * (1 + _SLACK):
            most = max(promised, key=lambda one: one[1])[0]
            names = ", ".join(name for name, amount in promised if amount)
            sentence = f"{amount_text(resource, total)} in all to {names}, but {whose} {amount_text(resource, limit)}"
            found.append(Problem(("team", most), "guarantee", f"{sentence}; lower it to what is there"))
    return found


def _total(nodes: Iterable[Node]) -> Resources:
    columns = list(zip(*(node.resources.vector() for node in nodes), strict=True)) or [()] * len(RESOURCES)
    return Resources(**{name: math.fsum(column) for name, column in zip(RESOURCES, columns, strict=True)})


def _team_of(job: Job, pool: Pool) -> list[Problem]:
    known = list(dict.fromkeys([DEFAULT_TEAM, *(team.name for team in pool.teams)]))
    if job.team in known:
        return []
    hint = nearest(job.team, known) or f"; write one of {', '.join(known)}"
    return [Problem(("job", job.name), "team", f'there is no team "{job.team}"{hint}')]


def _promised(job: Job, pool: Pool) -> list[Problem]:
    """A service may lose to a reclaim what it needs beyond the guarantee, so its owner had better know."""
    team = next((team for team in pool.teams if team.name == job.team), None)
    if job.kind != Kind.SERVICE or team is None or not any(one.guarantee for one in pool.teams):
        return []  # nobody was promised anything, so nobody reclaims
    has = team.guarantee or Resources()
    for resource in RESOURCES:
        needs = job.replicas.minimum * getattr(job.resources, resource)
        limit = getattr(has, resource)
        if needs > limit * (1 + _SLACK):
            sentence = f"its minimum needs {amount_text(resource, needs)}, and team {team.name} is guaranteed "
            rest = f"{amount_text(resource, limit)}: what is beyond is borrowed and may be taken back"
            return [Problem(("job", job.name), "replicas", sentence + rest)]
    return []
