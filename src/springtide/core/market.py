"""The spot market: bids per core-hour and gpu-hour, and one price per resource and tick.

A tick's price is the floor, unless a bid that would fit is refused; then the lowest winning bid, which all winners pay
(a uniform-price auction). A tick is paid when it begins, or when a replica starts within it for what is left of it; who
loses a replica in a plan gets back what is left of its tick. Prices and spending live in the snapshot: planning reads
them, `charged` (called by `Cluster.apply`) moves them on.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from springtide.core.reasons import Reason, money
from springtide.core.resources import CPU, GPU, SLACK, BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from springtide.core.draft import Draft
    from springtide.core.snapshot import Snapshot, Teams

SPOT, GONE = 0, -1
PRICED = (CPU, GPU)
UNITS = {CPU: "core-hour", GPU: "gpu-hour"}
MOST_CHANGES = 4096  # of prices that are remembered


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """Prices since `since_s` (H,), ascending, each until the next: per core-hour and per gpu-hour."""

    since_s: FloatArray = field(default_factory=lambda: np.zeros(0))
    core: FloatArray = field(default_factory=lambda: np.zeros(0))
    gpu: FloatArray = field(default_factory=lambda: np.zeros(0))

    def then(self, moment_s: float, core: float, gpu: float) -> History:
        """With the prices from that moment on; nothing is added where they are what they were."""
        if len(self.since_s) and (self.core[-1], self.gpu[-1]) == (core, gpu):
            return self
        columns = ((self.since_s, moment_s), (self.core, core), (self.gpu, gpu))
        return History(*(np.append(old[1 - MOST_CHANGES :], new) for old, new in columns))


@dataclass(frozen=True, slots=True)
class Prices:
    """One price per resource and tick."""

    floor_core: float = 0.0  # per core-hour
    floor_gpu: float = 0.0  # per gpu-hour
    core: float = 0.0
    gpu: float = 0.0
    tick: int = -1  # the last tick for which prices were set
    revenue: float = 0.0  # paid by all teams so far
    history: History = field(default_factory=History, compare=False)


@dataclass(frozen=True, slots=True)
class Bought:
    """What a bid would have bought in a span of time, as far as prices decide (not: whether a node had room)."""

    won_s: float
    of_s: float
    cost: float  # of one replica for all of `won_s`
    longest_wait_s: float

    def __str__(self) -> str:
        share = self.won_s / self.of_s if self.of_s else 0.0
        hours = self.of_s / 3600.0
        wait = f"the longest wait was {self.longest_wait_s / 3600.0:.3g} h" if self.longest_wait_s else "without a wait"
        return f"it would have bought {share:.0%} of the last {hours:.3g} h for {money(self.cost)}; {wait}"


def would_buy(
    history: History, bid_core: float, bid_gpu: float, until_s: float, cores: float = 1.0, gpus: float = 0.0,
    span_s: float = math.inf,
) -> Bought:  # fmt: skip
    """What one replica of so many cores and gpus would have got for this bid, of the last `span_s` that are known."""
    ends = np.append(history.since_s[1:], until_s)
    begins = np.clip(history.since_s, until_s - span_s, until_s)
    lasted = np.maximum(ends - begins, 0.0)
    won = ((cores <= 0) | (history.core <= bid_core)) & ((gpus <= 0) | (history.gpu <= bid_gpu))
    cost = float((lasted * won) @ (history.core * cores + history.gpu * gpus)) / 3600.0
    longest = waited = 0.0
    for seconds, good in zip(lasted.tolist(), won.tolist(), strict=True):
        waited = 0.0 if good else waited + seconds
        longest = max(longest, waited)
    return Bought(float(lasted[won].sum()), float(lasted.sum()), cost, longest)


def clear(draft: Draft) -> None:
    """Opens the market of this pass: the floor where a tick begins, and who may not bid at all is refused."""
    floor = draft.snapshot.prices
    if begins(draft):
        draft.core_price, draft.gpu_price = floor.floor_core, floor.floor_gpu
    rows = spot(draft)
    if not len(rows):
        return
    out = rows[~meets(draft, rows)]
    if not begins(draft):
        out = out[draft.count[out] == 0]  # who runs has paid for this tick
    for row in out.tolist():
        draft.refused.add(row)
        draft.wait(row, outbid(draft, row))
    stop_unpaid(draft, lambda row, slots, reason: draft.give(row, slots, reason))


def begins(draft: Draft) -> bool:
    """Whether this pass is the first of a tick, so that prices are set and lower bids may be replaced."""
    return tick_of(draft.snapshot) != draft.snapshot.prices.tick


def tick_of(snapshot: Snapshot) -> int:
    """The tick that the snapshot's moment is in."""
    return math.floor(snapshot.now_s / snapshot.settings.price_tick_s + SLACK)  # seconds since 1970: nothing relative


def spot(draft: Draft) -> IntArray:
    """Rows of spot jobs that are not refused."""
    rows = np.flatnonzero((draft.jobs.priority == SPOT) & (draft.jobs.kind != GONE))
    if draft.refused and len(rows):
        rows = rows[~np.isin(rows, list(draft.refused))]
    return rows


def bids(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows), 2) per core-hour and per gpu-hour; nobody pays less than the floor, so no bid at all is the floor."""
    jobs, prices = draft.jobs, draft.snapshot.prices
    given = np.stack([jobs.bid_core[rows], jobs.bid_gpu[rows]], axis=1)
    silent = (given <= 0).all(axis=1)
    given[silent] = (prices.floor_core, prices.floor_gpu)
    return given


def asks(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows), 2) cores and gpus of one replica."""
    asked: FloatArray = draft.snapshot.shapes.request[draft.jobs.shape[rows]][:, list(PRICED)]
    return asked


def meets(draft: Draft, rows: IntArray) -> BoolArray:
    """(len(rows),) whose bid meets the price of every resource that it asks for."""
    price = np.array([draft.core_price, draft.gpu_price])
    fine = (bids(draft, rows) >= price * (1 - SLACK)) | (asks(draft, rows) <= 0)
    return np.asarray(fine.all(axis=1))


def height(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows),) one number per bid: its mean over what is asked for, weighted by the floors, or else by scarcity."""
    prices = draft.snapshot.prices
    weight = np.array([prices.floor_core, prices.floor_gpu])
    if not (weight > 0).all():
        total = draft.nodes.total()[list(PRICED)]
        weight = np.where(np.isfinite(total) & (total > 0), 1.0 / np.maximum(total, SLACK), 1.0)
    value = asks(draft, rows) * weight
    mean: FloatArray = (value * bids(draft, rows)).sum(axis=1) / np.maximum(value.sum(axis=1), 1e-300)
    return mean


def in_order(draft: Draft, rows: IntArray) -> IntArray:
    """The rows, highest bid first; of equal bids who came first."""
    return rows[np.lexsort((rows, draft.jobs.submitted_s[rows], -height(draft, rows)))]


def cost(draft: Draft, rows: IntArray) -> FloatArray:
    """(len(rows),) what one replica costs for the rest of this tick."""
    settings, now_s = draft.settings, draft.now_s
    rest_s = (tick_of(draft.snapshot) + 1) * settings.price_tick_s - now_s
    price = np.array([draft.core_price, draft.gpu_price])
    each: FloatArray = asks(draft, rows) @ price * max(rest_s, 0.0) / 3600.0
    return each


def left(draft: Draft) -> FloatArray:
    """(T,) what each team, those below it included, could still spend in this tick; inf without a budget."""
    teams = draft.snapshot.teams
    rows = np.flatnonzero((draft.jobs.priority == SPOT) & (draft.jobs.kind != GONE))
    paid = 0 if begins(draft) else draft.jobs.running[rows]
    due = np.bincount(draft.jobs.team[rows], cost(draft, rows) * (draft.count[rows] - paid), len(teams.names))
    gone = teams.spent + due
    total = np.zeros_like(gone)
    for team in range(len(gone)):
        for each in _above(draft, team):
            total[each] += gone[team]
    return teams.budget - total


def affords(draft: Draft, row: int, more: int) -> bool:
    """Whether the budgets cover so many more replicas of the job for the rest of this tick; True for all but spot."""
    if draft.jobs.priority[row] != SPOT or not np.isfinite(draft.snapshot.teams.budget).any():
        return True
    due = float(cost(draft, np.array([row]))[0]) * more
    rest = left(draft)
    return all(due <= rest[team] * (1 + SLACK) + 1e-12 for team in _above(draft, int(draft.jobs.team[row])))


def stop_unpaid(draft: Draft, give: object) -> list[int]:
    """Takes from teams what their budgets do not cover: surplus first, then the lowest bids. Returns who was stopped.

    `give(row, slots, reason)` carries it out.
    """
    if not np.isfinite(draft.snapshot.teams.budget).any():
        return []
    stopped: list[int] = []
    rows = in_order(draft, spot(draft))
    rows = rows[draft.count[rows] > 0][::-1]
    for surplus in (True, False):
        for row in rows.tolist():
            team = int(draft.jobs.team[row])
            rest = left(draft)
            if all(rest[each] >= -1e-12 for each in _above(draft, team)):
                continue
            keep = int(draft.need[row]) if surplus else 0
            slots = list(draft.holding(row))[keep:]
            if slots and cost(draft, np.array([row]))[0] > 0:
                give(row, slots, unpaid(draft, row))  # type: ignore[operator]
                stopped += [] if surplus else [row]
    return stopped


def outbid(draft: Draft, row: int) -> Reason:
    """Why a bid is refused."""
    only = np.array([row])
    price = (draft.core_price, draft.gpu_price)
    for at, kind in enumerate(PRICED):
        bid = float(bids(draft, only)[0, at])
        if asks(draft, only)[0, at] > 0 and bid < price[at] * (1 - SLACK):
            return Reason("outbid: it bids {} per {}, the price is {}", (money(bid), UNITS[kind], money(price[at])))
    return Reason("outbid")


def unpaid(draft: Draft, row: int) -> Reason:
    """Why a job may not begin a tick."""
    team = int(draft.jobs.team[row])
    rest = left(draft)
    tight = min(_above(draft, team), key=lambda each: rest[each])
    teams = draft.snapshot.teams
    due = float(cost(draft, np.array([row]))[0]) * max(int(draft.need[row]), 1)
    spent = np.broadcast_to(teams.spent, len(teams.names))
    own = sum(float(spent[each]) for each in range(len(spent)) if tight in _above(draft, each))
    return Reason(
        "waits for budget: team {} has {} left of {}, and this tick costs {}",
        (teams.names[tight], money(max(float(teams.budget[tight] - own), 0.0)), money(teams.budget[tight]), money(due)),
    )


def lowest(draft: Draft, contested: Iterable[int]) -> tuple[float, float]:
    """The prices of a tick: per contested resource the lowest winning bid, the floor of the others."""
    prices = draft.snapshot.prices
    found = [prices.floor_core, prices.floor_gpu]
    rows = spot(draft)
    rows = rows[draft.count[rows] > 0]
    given, asked = bids(draft, rows), asks(draft, rows)
    for kind in contested:
        at = PRICED.index(kind)
        winning = given[asked[:, at] > 0, at]
        if len(winning):
            found[at] = max(found[at], float(winning.min()))
    return found[0], found[1]


def charged(before: Snapshot, after: Snapshot, core: float, gpu: float) -> tuple[Teams, Prices]:
    """Teams and prices after a plan: `before` and `after` are the pool around it, `core` and `gpu` what it set.

    In a tick that had begun, what ran is paid already: only what came or went is charged, or given back.
    """
    prices, teams, tick = before.prices, before.teams, tick_of(before)
    now = replace(prices, core=core, gpu=gpu, tick=tick, history=prices.history.then(before.now_s, core, gpu))
    jobs = after.jobs
    rows = np.flatnonzero((jobs.priority == SPOT) & (jobs.kind != GONE))
    if not len(rows):
        return teams, now
    paid = before.jobs.running[rows] if tick == prices.tick else 0
    rest_s = max((tick + 1) * before.settings.price_tick_s - before.now_s, 0.0)
    each = after.shapes.request[jobs.shape[rows]][:, list(PRICED)] @ np.array([core, gpu]) * rest_s / 3600.0
    due = np.bincount(jobs.team[rows], each * (jobs.running[rows] - paid), len(teams.names))
    if not due.any():
        return teams, now
    return replace(teams, spent=teams.spent + due), replace(now, revenue=now.revenue + float(due.sum()))


def _above(draft: Draft, team: int) -> list[int]:
    """The team and those above it, who pay with it."""
    chain: list[int] = []
    parent = draft.snapshot.teams.parent
    while team >= 0 and team not in chain:
        chain.append(team)
        team = int(parent[team])
    return chain
