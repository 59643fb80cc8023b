"""What a team is guaranteed, what it may borrow beyond, and which of its replicas are borrowed.

Minima count, surplus does not: surplus belongs to nobody and gives way to every minimum. Teams nest: what a team's
members hold counts for it, its limit bounds them all, and its guarantee is at least the sum of theirs; beside them its
own jobs have what is left of it. A resource that a guarantee does not name (0) says nothing about who is inside it.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from springtide.core import resources
from springtide.core.draft import Draft
from springtide.core.resources import SLACK, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import GONE


class Quota:
    """The teams' accounts in one pass. Whoever admits or suspends a minimum says so with `count`."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self.teams = draft.snapshot.teams
        self.chains = chains(self.teams.parent)
        self.guarantee = _rolled_up_guarantee(self.teams.guarantee, self.chains)
        self.rest = _beside_members(self.guarantee, self.chains)  # of a guarantee, for the team's own jobs
        self.limit: FloatArray = self.guarantee + self.teams.borrow
        self.limited = bool(np.isfinite(self.limit).any())
        self.guaranteed = bool((self.guarantee > 0).any())
        self._covered: dict[int, BoolArray] = {}

    @cached_property
    def needed(self) -> FloatArray:
        """(T, 5) what the minima of each team and of those below it hold."""
        return rolled_up(self._own, self.chains)

    @cached_property
    def _own(self) -> FloatArray:
        """(T, 5) what the minima of each team's own jobs hold."""
        return minima(self._draft)

    def count(self, team: int, amount: FloatArray) -> None:
        """Minima of `amount` (5,) were admitted (below 0: given up) in this team."""
        if "_own" in self.__dict__:
            self._own[team] += amount
        if "needed" in self.__dict__:
            for each in self.chains[team]:
                self.needed[each] += amount
        self._covered.clear()

    def barrier(self, team: int, amount: FloatArray) -> int:
        """The first team, from this one to the root, whose limit forbids `amount` more; -1 where none does."""
        if self.limited:
            for each in self.chains[team]:
                if _exceeds(self.needed[each] + amount, self.limit[each], amount):
                    return each
        return -1

    def room(self, team: int) -> FloatArray:
        """(5,) what a team may hold beyond its minima, by its own limit and those above it."""
        chain = self.chains[team]
        left: FloatArray = np.clip(np.min(self.limit[chain] - self.needed[chain], axis=0), 0.0, None)
        return left

    def inside(self, team: int, amount: FloatArray) -> bool:
        """Whether a team that takes `amount` more stays inside what it, or a team above it, is guaranteed."""
        return self.guaranteed and any(self._within(each, amount) for each in self.chains[team])

    def protected(self, team: int, amount: FloatArray) -> BoolArray:
        """(J,) rows of others that run inside their guarantee, for a claim of `amount` by a team outside its own."""
        safe = np.zeros(len(self._draft.count), dtype=bool)
        for level, rows in self._sides(team):
            if not self._entitled(team, level, amount):
                safe |= rows & self.covered(level + 1)
        return safe

    def reclaimable(self, team: int, amount: FloatArray) -> BoolArray:
        """(J,) rows of other teams that run on what is borrowed, for a claim of `amount` inside a guarantee."""
        borrowed = np.zeros(len(self._draft.count), dtype=bool)
        for level, rows in self._sides(team):
            if self._entitled(team, level, amount):
                borrowed |= rows & ~self.covered(level + 1)
        return borrowed

    def covered(self, depth: int) -> BoolArray:
        """(J,) rows whose minimum is inside the guarantee of their team at this depth (a root has depth 0).

        Borrowing is attributed to the least important: the lowest class, the last submitted.
        """
        if depth not in self._covered:
            self._covered[depth] = self._cover(self._at_depth(depth), depth)
        return self._covered[depth]

    def safe(self) -> list[BoolArray]:
        """`covered` at every depth, as it is now."""
        return [self.covered(depth) for depth in range(len(self._ancestors))] if self.guaranteed else []

    def lapsed(self, before: list[BoolArray]) -> bool:
        """Whether one that still runs was inside a guarantee `before` and is not now: others may claim its room."""
        runs = self._draft.count > 0
        return any((was & ~now & runs).any() for was, now in zip(before, self.safe(), strict=True))

    def _cover(self, team_of: IntArray, depth: int) -> BoolArray:
        draft, jobs = self._draft, self._draft.jobs
        rows = np.flatnonzero((jobs.kind != GONE) & (draft.count > 0))
        teams = team_of[jobs.team[rows]]
        rows = rows[np.lexsort((rows, jobs.submitted_s[rows], -jobs.priority[rows], teams))]
        teams = team_of[jobs.team[rows]]
        request = draft.snapshot.shapes.request[jobs.shape[rows]]
        held = np.cumsum(request * np.minimum(draft.count, draft.need)[rows, None], axis=0)
        first = np.searchsorted(teams, teams)  # the first row of the same team
        before = np.where(first[:, None] > 0, held[first - 1], 0.0)
        above = self._depth[teams] < depth  # the team's own jobs, beside its members
        bound = np.where(above[:, None], self.rest[teams], self.guarantee[teams])
        names = (self.guarantee[teams] > 0) & (request > 0)
        within = ((held - before) <= bound * (1 + SLACK) + SLACK) | ~names
        found = np.zeros(len(draft.count), dtype=bool)
        found[rows] = names.any(axis=1) & within.all(axis=1)
        return found

    def _within(self, team: int, amount: FloatArray) -> bool:
        names = (self.guarantee[team] > 0) & (amount > 0)
        return bool(names.any()) and not _exceeds(self.needed[team] + amount, self.guarantee[team], names)

    def _entitled(self, team: int, level: int, amount: FloatArray) -> bool:
        """Whether `amount` more is inside what the team has against those who part from it at this depth."""
        if level < len(self.chains[team]) - 1:
            return self._within(self._child(team, level), amount)
        names = (self.guarantee[team] > 0) & (amount > 0)
        return bool(names.any()) and not _exceeds(self._own[team] + amount, self.rest[team], names)

    def _sides(self, team: int) -> list[tuple[int, BoolArray]]:
        """For each depth of a team above both, whose rows part there: (depth, (J,) rows); -1: no such team."""
        depth = self._common_depth(team)[self._draft.jobs.team]
        other = (self._draft.jobs.kind != GONE) & (self._draft.jobs.team != team) & (self._draft.count > 0)
        sides = [(level, other & (depth == level)) for level in range(-1, len(self.chains[team]))]
        return [(level, rows) for level, rows in sides if rows.any()]

    def _common_depth(self, team: int) -> IntArray:
        """(T,) depth of the lowest team that is above both; -1 where none is."""
        chain = self.chains[team][::-1]
        depth = np.full(len(self.chains), -1)
        for level, each in enumerate(chain):
            depth[self._at_depth(level) == each] = level
        return depth

    def _child(self, team: int, level: int) -> int:
        """The team's ancestor (or itself) below depth `level`."""
        return self.chains[team][::-1][level + 1]

    def _at_depth(self, depth: int) -> IntArray:
        """(T,) each team's ancestor at this depth; the team itself where it is not so deep."""
        return self._ancestors[min(depth, len(self._ancestors) - 1)]

    @cached_property
    def _depth(self) -> IntArray:
        """(T,) how many teams are above each."""
        return np.array([len(chain) - 1 for chain in self.chains])

    @cached_property
    def _ancestors(self) -> list[IntArray]:
        deepest = max(len(chain) for chain in self.chains)
        return [np.array([chain[::-1][min(d, len(chain) - 1)] for chain in self.chains]) for d in range(deepest)]


def chains(parent: IntArray) -> list[list[int]]:
    """For each team: itself, its parent, and so on to the root. A cycle, which `spec` refuses, is cut."""
    found = []
    for team in range(len(parent)):
        chain: list[int] = []
        while team >= 0 and team not in chain:
            chain.append(team)
            team = int(parent[team])
        found.append(chain)
    return found


def minima(draft: Draft) -> FloatArray:
    """(T, 5) what each team's jobs hold without their surplus."""
    jobs = draft.jobs
    rows = np.flatnonzero((jobs.kind != GONE) & (draft.count > 0))
    amounts = draft.snapshot.shapes.request[jobs.shape[rows]] * np.minimum(draft.count, draft.need)[rows, None]
    return by_team(draft, rows, amounts)


def by_team(draft: Draft, rows: IntArray, amounts: FloatArray) -> FloatArray:
    """(T, 5) sums of (len(rows), 5) amounts over each team's rows, members of teams below not counted."""
    teams = len(draft.snapshot.teams.names)
    columns = [np.bincount(draft.jobs.team[rows], amounts[:, kind], teams) for kind in range(resources.COUNT)]
    return np.stack(columns, axis=1).astype(np.float64)


def rolled_up(own: FloatArray, chains: list[list[int]]) -> FloatArray:
    """(T, ...) each team's own amount and that of all teams below it."""
    if all(len(chain) == 1 for chain in chains):
        return own.copy()
    total = np.zeros_like(own)
    for team, chain in enumerate(chains):
        total[chain] += own[team]
    return total


def _rolled_up_guarantee(own: FloatArray, chains: list[list[int]]) -> FloatArray:
    total = own.copy()
    below: dict[int, list[int]] = {}
    for team, chain in enumerate(chains):
        if len(chain) > 1:
            below.setdefault(chain[1], []).append(team)
    for team in sorted(below, key=lambda team: -len(chains[team])):
        total[team] = np.maximum(own[team], total[below[team]].sum(axis=0))
    return total


def _beside_members(guarantee: FloatArray, chains: list[list[int]]) -> FloatArray:
    rest = guarantee.copy()
    for team, chain in enumerate(chains):
        if len(chain) > 1:
            rest[chain[1]] -= guarantee[team]
    return np.maximum(rest, 0.0)


def _exceeds(held: FloatArray, bound: FloatArray, asked: FloatArray | BoolArray) -> bool:
    return bool(np.any((held > bound * (1 + SLACK) + SLACK) & (asked > 0)))
