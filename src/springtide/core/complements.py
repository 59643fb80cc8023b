"""Jobs that use different resources in turn share whole GPUs: who runs beside whom, while more wait than fit.

An iteration of training loads data, computes and communicates. Up to four jobs of one shape take turns on the same
GPUs, so that one computes while another loads (Muri, Zhao et al., SIGCOMM'22). `share` walks down the jobs by least
remaining service. One that finds no free GPUs joins a group of its shape, or two groups are put together elsewhere to
make room for it, whichever pays most: what all gain in work per GPU-second, times how many wait behind it for those
GPUs, must exceed what is lost by those who run. So nothing is shared in an empty pool, and much where many wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import permutations

import numpy as np

from springtide.core import quota, seats, shares
from springtide.core.draft import Draft
from springtide.core.reasons import Reason
from springtide.core.resources import GPU, BoolArray, FloatArray, IntArray
from springtide.core.snapshot import TRAINING

MOST = 4  # jobs that take turns on a GPU
STRETCH = (0.0, 1.015, 1.33 / 1.015, 1.5 / 1.015, 1.37 / 1.015)  # of an iteration of 1..4 jobs (Muri's measurements)

Stages = tuple[float, float, float]  # seconds of one iteration: loading (disk and cpu), gpu, network
ALONE = Reason("runs alone on its GPUs, in the order of least remaining service")
BESIDE = Reason("takes turns on its GPUs with others that load, compute and communicate at other times")
BEHIND = Reason("waits: the jobs ahead of it by remaining service, {} of which share GPUs, leave none for it")


def turns(stages: Sequence[Stages]) -> float:
    """Seconds in which each of these 1..4 jobs gets one iteration done on the same GPUs, without overheads.

    Four seats in a ring, four steps in a round: a job loads for two steps, computes in the third and communicates in
    the fourth, each seat a step behind the one before. The round is as short as its longest chain of steps allows.
    """
    if len(stages) == 1:
        return sum(stages[0])
    first, *others = stages
    empty: Stages = (0.0, 0.0, 0.0)
    rest = [*others, *[empty] * (MOST - len(stages))]
    best = min(_round([first, *order]) for order in permutations(rest))
    if len(stages) == 2:
        a, b = stages
        best = min(best, max(a[0], b[1] + b[2]) + max(b[0], a[1] + a[2]))
    return best


def _round(seats_: Sequence[Stages]) -> float:
    """The longest chain around the ring: step i lasts for its gpu and network, loading spans steps i - 1 and i."""
    step = [max(seats_[(i + 1) % 4][2], seats_[(i + 2) % 4][1]) for i in range(4)]
    load = [seats_[(i + 3) % 4][0] for i in range(4)]
    chains = [load[i] + step[(i + 1) % 4] + step[(i + 2) % 4] for i in range(4)]
    return max(sum(step), load[0] + load[2], load[1] + load[3], *chains)


@lru_cache(maxsize=1 << 16)
def iteration_s(stages: tuple[Stages, ...]) -> float:
    """Seconds of an iteration of jobs that take turns, with the measured overhead. `stages` is sorted."""
    return max(turns(stages) * STRETCH[len(stages)], 1e-12)


@lru_cache(maxsize=1 << 16)
def speeds(stages: tuple[Stages, ...]) -> tuple[float, ...]:
    """How fast each of these (sorted) jobs is in turns, against itself alone."""
    if len(stages) == 1:
        return (1.0,)
    together = iteration_s(stages)
    return tuple(sum(each) * STRETCH[1] / together for each in stages)


def stages_of(stages: FloatArray) -> Stages:
    """A row of `Jobs.stages` (disk, cpu, gpu, network) as the three that take turns."""
    disk, cpu, gpu, network = stages.tolist()
    return disk + cpu, gpu, network


@lru_cache(maxsize=1 << 16)
def _speed_of(stages: tuple[Stages, ...]) -> float:
    return sum(speeds(stages))


def _together(one: tuple[Stages, ...], other: tuple[Stages, ...]) -> tuple[Stages, ...]:
    return tuple(sorted(one + other))


@lru_cache(maxsize=1 << 18)
def _gained(one: tuple[Stages, ...], other: tuple[Stages, ...]) -> float:
    """Speed of all when two groups share the GPUs of one, less their speeds on GPUs of their own: below 0."""
    return _speed_of(_together(one, other)) - _speed_of(one) - _speed_of(other)


@dataclass(slots=True)
class Group:
    """Jobs on the same GPUs; `stages` is sorted, `rows` are in the order in which they came."""

    rows: list[int]
    stages: tuple[Stages, ...]


@dataclass(slots=True)
class Walk:
    """Groups in the making, by shape: (shape, replicas) -> groups. All of one shape hold `gpus` each."""

    room: float  # GPUs that are left
    total: float  # GPUs that all of them may hold
    groups: dict[tuple[int, int], list[Group]] = field(default_factory=dict)
    gpus: dict[tuple[int, int], float] = field(default_factory=dict)
    _hopeless: set[tuple[tuple[int, int], Stages]] = field(default_factory=set)

    def add(self, row: int, shape: tuple[int, int], gpus: float, stages: Stages, behind: int, must: bool) -> bool:
        """The next in line runs alone, joins a group, or finds room where two groups are put together; or waits."""
        self.gpus[shape] = gpus
        if gpus <= self.room:
            self._alone(row, shape, stages)
            return True
        if (shape, stages) in self._hopeless:
            return False
        weight = 1.0 + behind * gpus / self.total
        joined, group = self._join(shape, stages, weight, must)
        merged, where, pairs = self._merge(gpus, weight)
        if group is not None and joined >= merged:
            group.rows.append(row)
            group.stages = _together(group.stages, (stages,))
        elif where is not None:
            self._put_together(where, pairs)
            self._alone(row, shape, stages)
        else:
            self._hopeless.add((shape, stages))
            return False
        self._hopeless.clear()
        return True

    def _alone(self, row: int, shape: tuple[int, int], stages: Stages) -> None:
        self.groups.setdefault(shape, []).append(Group([row], (stages,)))
        self.room -= self.gpus[shape]

    def _join(self, shape: tuple[int, int], stages: Stages, weight: float, must: bool) -> tuple[float, Group | None]:
        """The group that the job joins at most gain, and the gain; None where it does not pay and need not be."""
        best, found = (-math.inf if must else 1e-9), None
        seen: set[tuple[Stages, ...]] = set()
        for group in self.groups.get(shape, ()):
            if len(group.rows) == MOST or group.stages in seen:
                continue
            seen.add(group.stages)
            more = 1.0 + _gained(group.stages, (stages,))
            together = _together(group.stages, (stages,))
            own = speeds(together)[together.index(stages)]
            gain = weight * more - (own - more)
            if gain > best + 1e-12:
                best, found = gain, group
        return best, found

    def _merge(self, gpus: float, weight: float) -> tuple[float, tuple[int, int] | None, list[tuple[Group, Group]]]:
        """Pairs of groups of one shape that make room for `gpus` at most gain, if that pays."""
        best: tuple[float, tuple[int, int] | None, list[tuple[Group, Group]]] = (1e-9, None, [])
        for shape, each in self.gpus.items():
            count = math.ceil((gpus - self.room) / each)
            pairs = self._pairs(shape, count) if 2 * count <= len(self.groups.get(shape, ())) else []
            if len(pairs) < count:
                continue
            lost = -sum(_gained(one.stages, other.stages) for one, other in pairs)
            gain = weight * (gpus - each * lost) / gpus - lost
            if gain > best[0] + 1e-12:
                best = gain, shape, pairs
        return best

    def _pairs(self, shape: tuple[int, int], count: int) -> list[tuple[Group, Group]]:
        """The `count` pairs that lose least, one after the other."""
        kinds: dict[tuple[Stages, ...], list[Group]] = {}
        for group in self.groups[shape]:
            if len(group.rows) < MOST:
                kinds.setdefault(group.stages, []).append(group)
        names = list(kinds)
        costs = sorted(
            (-_gained(one, other), i, j)
            for i, one in enumerate(names)
            for j, other in enumerate(names[: i + 1])
            if len(one) + len(other) <= MOST
        )
        pairs: list[tuple[Group, Group]] = []
        for _, i, j in costs:
            one, other = kinds[names[i]], kinds[names[j]]
            while len(pairs) < count and (len(one) >= 2 if i == j else one and other):
                pairs.append((one.pop(), other.pop()))
            if len(pairs) == count:
                break
        return pairs

    def _put_together(self, shape: tuple[int, int], pairs: list[tuple[Group, Group]]) -> None:
        for one, other in pairs:
            one.rows += other.rows
            one.stages = _together(one.stages, other.stages)
            self.groups[shape] = [group for group in self.groups[shape] if group is not other]
            self.room += self.gpus[shape]


def takes_turns(draft: Draft) -> BoolArray:
    """(J,) training of fixed size on whole GPUs whose stages and work are known, and that loses nothing by a stop."""
    jobs = draft.jobs
    known: BoolArray = np.isfinite(jobs.stages[:, 0]) & (jobs.kind == TRAINING)
    if not known.any():
        return known
    known &= np.isfinite(jobs.stages).all(axis=1) & np.isfinite(jobs.remaining_s) & (jobs.unsaved_s == 0)
    known &= (jobs.minimum == jobs.maximum) & ((draft.count == 0) | (draft.count == draft.need))
    if draft.refused:
        known[list(draft.refused)] = False
    gpu = draft.snapshot.shapes.request[jobs.shape, GPU]
    known &= (gpu >= 1) & (jobs.priority > 0)
    return known


def share(draft: Draft) -> None:
    """Decides anew who of a team's class runs beside whom, where that gets more done than what runs now."""
    known = takes_turns(draft)
    if not known.any():
        return
    rows, jobs = np.flatnonzero(known), draft.jobs
    for priority, team in sorted({*zip(jobs.priority[rows].tolist(), jobs.team[rows].tolist(), strict=True)})[::-1]:
        mine = rows[(jobs.priority[rows] == priority) & (jobs.team[rows] == team)]
        if (draft.count[mine] == 0).any() or _shared(draft, mine):
            _share(draft, mine, team)


def _shared(draft: Draft, rows: IntArray) -> bool:
    """Whether some of them take turns now, though GPUs may have come free."""
    asked = draft.snapshot.shapes.request[draft.jobs.shape[rows], GPU] * draft.count[rows]
    devices = {(slot.node, slot.devices) for row in rows.tolist() for slot in draft.holding(row)}
    return bool(asked.sum() > sum(bits.bit_count() for _, bits in devices))


def _share(draft: Draft, rows: IntArray, team: int) -> None:
    service = shares.remaining_service(draft, rows)
    order = rows[np.lexsort((rows, draft.jobs.submitted_s[rows], service))]
    before = seats.groups_of(draft, order)
    free = seats.free_devices(draft, order) if _may_take_free(draft, rows, team) else seats.held_devices(draft, order)
    after = _better(draft, order, before, free)
    if after is not before and not seats.settle(draft, order, after, (ALONE, BESIDE)):
        after = before
    sharing = sum(len(group) for group in after if len(group) > 1)
    running = {row for group in after for row in group}
    for row in order.tolist():
        if row not in running:
            draft.wait(row, Reason(BEHIND.template, (sharing,)))


def _may_take_free(draft: Draft, rows: IntArray, team: int) -> bool:
    """Free GPUs are theirs when nobody else waits for room and no limit of the team's is at stake."""
    others = np.setdiff1d(shares.lacking(draft), rows)
    teams = draft.snapshot.teams
    limits = [each for each in quota.chains(teams.parent)[team] if np.isfinite(teams.borrow[each]).any()]
    return not len(others) and not limits


def _better(draft: Draft, order: IntArray, groups: list[list[int]], free: int) -> list[list[int]]:
    """Another grouping that gets more done, or the given one itself.

    Who starts again soon after a suspension may not be suspended by the next pass; so the walk is repeated with those
    that it starts until it changes nothing, and that pass will not either.
    """
    worth, kept = _worth(draft, order, groups, free), _kept(draft, order, groups)
    while True:
        found = _groups(draft, order, kept, float(free))
        more = -math.inf if found is None else _worth(draft, order, found, free)
        if found is None or more <= worth * (1 + 1e-9):
            return groups
        before, groups, worth, kept = kept, found, more, _kept(draft, order, found)
        if (before == kept).all():
            return groups


def _kept(draft: Draft, order: IntArray, groups: list[list[int]]) -> BoolArray:
    """(len(order),) who runs in these groups and was suspended too recently to be suspended again."""
    running = np.isin(order, [row for group in groups for row in group])
    kept: BoolArray = running & (draft.now_s - draft.jobs.suspended_s[order] < draft.settings.suspend_every_s)
    return kept


def _groups(draft: Draft, order: IntArray, soon: BoolArray, total: float) -> list[list[int]] | None:
    """Who runs beside whom on `total` GPUs; None where somebody would be suspended too soon again."""
    jobs = draft.jobs
    walk = Walk(total, max(total, 1.0))
    gpus = draft.snapshot.shapes.request[jobs.shape[order], GPU] * draft.need[order]
    for must in (True, False):
        for place in np.flatnonzero(soon == must).tolist():
            row = int(order[place])
            shape = int(jobs.shape[row]), int(draft.need[row])
            stages = stages_of(jobs.stages[row])
            if not walk.add(row, shape, float(gpus[place]), stages, len(order) - 1 - place, must) and must:
                return None
    return [group.rows for groups in walk.groups.values() for group in groups]


def _worth(draft: Draft, order: IntArray, groups: list[list[int]], total: float) -> float:
    """Speed of all that run, each weighed by those who wait behind it for its GPUs."""
    place = {row: at for at, row in enumerate(order.tolist())}
    worth = 0.0
    for rows in groups:
        named = sorted((stages_of(draft.jobs.stages[row]), row) for row in rows)
        fast = speeds(tuple(stages for stages, _ in named))
        for (_, row), speed in zip(named, fast, strict=True):
            gpus = float(draft.request(row)[GPU]) * float(draft.need[row])
            worth += speed * (1.0 + (len(order) - 1 - place[row]) * gpus / max(total, 1.0))
    return worth
