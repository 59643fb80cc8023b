"""The spot market: prices, budgets, who wins and what he is told."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from springtide.core import Cluster, Plan, Snapshot, market, placement, plan
from springtide.core.cluster import make_nodes
from springtide.core.draft import Draft
from springtide.core.market import History, Prices, would_buy
from springtide.core.resources import CPU, GPU, vector
from springtide.core.snapshot import BATCH, GONE, TRAINING, Teams

law = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
TICK_S = 60.0


def a_market(nodes: list[np.ndarray], budgets: tuple[float, ...] = (math.inf,), floor: float = 1.0) -> Cluster:
    """Teams `team-0`, ... with these budgets; cores and GPUs cost at least `floor` an hour."""
    count = len(budgets)
    none = np.zeros((count, 5))
    teams = Teams(
        [f"team-{t}" for t in range(count)], np.full(count, -1), none, none + np.inf, np.ones(count),
        np.array(budgets), np.zeros(count),
    )  # fmt: skip
    return Cluster(make_nodes(np.array(nodes)), teams, Prices(floor_core=floor, floor_gpu=floor))


def bid(cluster: Cluster, name: str, core: float, cpu: float = 1.0, gpu: float = 0.0, **columns: float) -> int:
    columns = {"kind": BATCH, "priority": 0, "bid_core": core, "bid_gpu": core} | columns
    return cluster.add(name, request=vector(cpu=cpu, gpu=gpu), **columns)  # type: ignore[arg-type]


def step(cluster: Cluster, now_s: float) -> Plan:
    decided = plan(cluster.snapshot(now_s))
    cluster.apply(decided, now_s)
    return decided


def running(cluster: Cluster) -> set[str]:
    return {name for name, row in cluster.rows.items() if cluster.held[row]}


def test_the_floor_is_the_price_while_all_bids_fit() -> None:
    cluster = a_market([vector(cpu=4)])
    bid(cluster, "a", 5.0)
    bid(cluster, "b", 2.0)
    assert step(cluster, 0.0).core_price == 1.0
    assert running(cluster) == {"a", "b"}


def test_the_lowest_winning_bid_is_the_price_when_one_is_refused() -> None:
    cluster = a_market([vector(cpu=2)])
    for name, core in (("low", 2.0), ("high", 5.0), ("middle", 3.0)):
        bid(cluster, name, core)
    decided = step(cluster, 0.0)
    assert (running(cluster), decided.core_price) == ({"high", "middle"}, 3.0)
    assert str(decided.waits[cluster.rows["low"]]) == "outbid: it bids 2 per core-hour, the price is 3"


def test_a_bid_below_the_floor_is_refused_though_there_is_room() -> None:
    cluster = a_market([vector(cpu=2)])
    row = bid(cluster, "cheap", 0.5)
    assert str(step(cluster, 0.0).waits[row]) == "outbid: it bids 0.5 per core-hour, the price is 1"


def test_a_higher_bid_replaces_a_lower_one_at_the_next_tick_and_not_before() -> None:
    cluster = a_market([vector(cpu=1)])
    bid(cluster, "low", 2.0)
    step(cluster, 0.0)
    bid(cluster, "high", 3.0)
    step(cluster, 30.0)
    assert running(cluster) == {"low"}
    decided = step(cluster, TICK_S)
    assert (running(cluster), decided.core_price) == ({"high"}, 3.0)


def test_of_equal_bids_the_first_wins() -> None:
    cluster = a_market([vector(cpu=1)])
    bid(cluster, "late", 2.0, submitted_s=9.0)
    bid(cluster, "early", 2.0, submitted_s=3.0)
    step(cluster, 10.0)
    assert running(cluster) == {"early"}


def test_a_bid_that_no_node_could_hold_does_not_raise_the_price_and_is_told_so() -> None:
    cluster = a_market([vector(cpu=2)])
    bid(cluster, "small", 2.0)
    row = bid(cluster, "huge", 9.0, cpu=3.0)
    decided = step(cluster, 0.0)
    assert decided.core_price == 1.0
    assert "on one node" in str(decided.waits[row])


def test_a_job_must_meet_the_price_of_every_resource_that_it_asks_for() -> None:
    cluster = a_market([vector(cpu=8, gpu=1)])
    bid(cluster, "winner", 1.0, gpu=1.0, bid_gpu=5.0)
    row = bid(cluster, "loser", 4.0, gpu=1.0, bid_gpu=2.0)
    bid(cluster, "cores", 1.0)
    decided = step(cluster, 0.0)
    assert running(cluster) == {"winner", "cores"}
    assert str(decided.waits[row]) == "outbid: it bids 2 per gpu-hour, the price is 5"


def test_spot_jobs_give_way_to_better_classes_the_lowest_bid_first() -> None:
    cluster = a_market([vector(cpu=2)])
    bid(cluster, "low", 2.0)
    bid(cluster, "high", 3.0)
    step(cluster, 0.0)
    cluster.add("work", kind=BATCH, request=vector(cpu=1), priority=1)
    step(cluster, 1.0)
    assert running(cluster) == {"high", "work"}


def test_a_tick_is_paid_when_it_begins() -> None:
    cluster = a_market([vector(cpu=4)])
    bid(cluster, "a", 5.0, cpu=3.0)
    step(cluster, 0.0)
    step(cluster, 20.0)
    assert math.isclose(cluster.prices.revenue, 3 * TICK_S / 3600)
    step(cluster, TICK_S)
    assert math.isclose(cluster.prices.revenue, 2 * 3 * TICK_S / 3600)
    assert math.isclose(cluster.teams.spent[0], cluster.prices.revenue)


def test_a_tick_begins_at_its_time_and_not_before_though_seconds_count_from_1970() -> None:
    cluster = a_market([vector(cpu=1)])
    bid(cluster, "a", 3600.0)
    noon_s = 1_800_000_000.0
    for second in range(180):
        step(cluster, noon_s + second + 0.5)
    assert math.isclose(cluster.prices.revenue, 180.0 / 3600.0, rel_tol=0.01)


def test_who_is_preempted_within_a_tick_pays_for_what_it_had() -> None:
    cluster = a_market([vector(cpu=1)])
    bid(cluster, "a", 5.0)
    step(cluster, 0.0)
    cluster.add("work", kind=BATCH, request=vector(cpu=1), priority=1)
    step(cluster, 15.0)
    assert math.isclose(cluster.prices.revenue, 15 / 3600)


def test_a_job_starts_a_tick_only_if_its_team_can_pay_for_it() -> None:
    cluster = a_market([vector(cpu=4)], budgets=(2.5 * TICK_S / 3600,))
    row = bid(cluster, "a", 9.0)
    for tick in range(2):
        step(cluster, tick * TICK_S)
        assert running(cluster) == {"a"}
    decided = step(cluster, 2 * TICK_S)
    assert running(cluster) == set()
    assert "waits for budget: team team-0 has 0.008333 left" in str(decided.waits[row])


def test_a_bid_that_its_team_cannot_pay_leaves_its_room_to_the_next() -> None:
    cluster = a_market([vector(cpu=1)], budgets=(1.5 * TICK_S / 3600, math.inf))
    bid(cluster, "rich", 2.0, team=1)
    bid(cluster, "poor", 9.0, team=0)
    step(cluster, 0.0)
    assert running(cluster) == {"rich"}


def test_growth_of_a_spot_job_stays_inside_the_budget() -> None:
    cluster = a_market([vector(cpu=8)], budgets=(3.5 * TICK_S / 3600,))
    row = bid(cluster, "elastic", 2.0, kind=TRAINING, maximum=8)
    step(cluster, 0.0)
    assert len(cluster.held[row]) == 3


def test_the_budget_of_a_team_above_bounds_those_below() -> None:
    cluster = a_market([vector(cpu=8)], budgets=(1.5 * TICK_S / 3600, math.inf, math.inf))
    cluster.teams.parent[1:] = 0
    bid(cluster, "first", 3.0, team=1)
    bid(cluster, "second", 2.0, team=2)
    step(cluster, 0.0)
    assert running(cluster) == {"first"}


def test_a_bidder_learns_what_a_bid_would_have_bought() -> None:
    history = History(np.array([0.0, 3600.0, 7200.0]), np.array([1.0, 3.0, 1.0]), np.array([1.0, 1.0, 1.0]))
    bought = would_buy(history, bid_core=2.0, bid_gpu=0.0, until_s=3 * 3600.0)
    assert (bought.won_s, bought.cost, bought.longest_wait_s) == (7200.0, 2.0, 3600.0)
    assert str(bought) == "it would have bought 67% of the last 3 h for 2; the longest wait was 1 h"


def test_prices_are_remembered_only_where_they_change() -> None:
    cluster = a_market([vector(cpu=1)])
    for tick in range(5):
        step(cluster, tick * TICK_S)
    assert len(cluster.prices.history.since_s) == 1


@st.composite
def markets(draw: st.DrawFn) -> tuple[Cluster, list[tuple[float, dict[str, float]]]]:
    """A pool, budgets and bids that come over some ticks."""
    nodes = [vector(cpu=draw(st.integers(1, 6)), gpu=draw(st.integers(0, 2))) for _ in range(draw(st.integers(1, 3)))]
    budgets = tuple(draw(st.sampled_from([math.inf, 0.02, 0.05, 0.2])) for _ in range(draw(st.integers(1, 3))))
    cluster = a_market(nodes, budgets, draw(st.sampled_from([0.0, 0.5, 1.0])))
    events = []
    for _ in range(draw(st.integers(1, 9))):
        job = {
            "core": draw(st.integers(0, 4)) / 2, "bid_gpu": draw(st.integers(0, 4)) / 2,
            "cpu": draw(st.sampled_from([0.5, 1, 2, 3])), "gpu": draw(st.sampled_from([0, 0, 0.5, 1])),
            "minimum": draw(st.integers(1, 2)), "maximum": 2 + draw(st.integers(0, 2)), "kind": TRAINING,
            "team": draw(st.integers(0, len(budgets) - 1)), "priority": draw(st.sampled_from([0, 0, 0, 1])),
        }  # fmt: skip
        events.append((draw(st.sampled_from([0.0, 7.0, 60.0, 130.0])), job))
    return cluster, events


def played(cluster: Cluster, events: list[tuple[float, dict[str, float]]]) -> list[tuple[Snapshot, Plan, Snapshot]]:
    found, now_s = [], 0.0
    for number, (wait_s, job) in enumerate(events):
        now_s += wait_s
        bid(cluster, f"job-{number}", **{**job, "submitted_s": now_s})  # type: ignore[arg-type]
        before = cluster.frozen(now_s)
        decided = step(cluster, now_s)
        found.append((before, decided, cluster.frozen(now_s)))
    return found


@law
@given(markets())
def test_budgets_are_never_below_zero(case: tuple[Cluster, list[tuple[float, dict[str, float]]]]) -> None:
    for _, _, after in played(*case):
        assert (after.teams.spent <= after.teams.budget + 1e-9).all()


@law
@given(markets())
def test_there_is_one_price_per_resource_and_tick(case: tuple[Cluster, list[tuple[float, dict[str, float]]]]) -> None:
    prices: dict[int, tuple[float, float]] = {}
    for seen, decided, _ in played(*case):
        tick = int(seen.now_s // TICK_S)
        assert prices.setdefault(tick, (decided.core_price, decided.gpu_price)) == (
            decided.core_price,
            decided.gpu_price,
        )


@law
@given(markets())
def test_whoever_runs_bids_the_price(case: tuple[Cluster, list[tuple[float, dict[str, float]]]]) -> None:
    for seen, _, after in played(*case):
        draft = Draft(after)
        rows = np.flatnonzero((after.jobs.priority == 0) & (after.jobs.kind != GONE) & (after.jobs.running > 0))
        assert market.meets(draft, rows).all(), seen.now_s


@law
@given(markets())
def test_nobody_waits_whose_bid_meets_the_price_and_who_fits_and_can_pay(
    case: tuple[Cluster, list[tuple[float, dict[str, float]]]],
) -> None:
    for _, decided, after in played(*case):
        draft = Draft(after)
        for row in np.flatnonzero((after.jobs.priority == 0) & (after.jobs.kind != GONE) & (after.jobs.running == 0)):
            minimum = int(after.jobs.minimum[row])
            fits = len(placement.choose(draft, int(row), minimum)) == minimum
            wins = bool(market.meets(draft, np.array([row]))[0]) and market.affords(draft, int(row), minimum)
            assert not (fits and wins), str(decided.waits.get(int(row)))


@law
@given(markets())
def test_revenue_is_price_times_use(case: tuple[Cluster, list[tuple[float, dict[str, float]]]]) -> None:
    """Within a tick that a pass begins; what passes skip, nobody pays."""
    cluster, events = case
    now_s = earned = 0.0
    for number, (wait_s, job) in enumerate(events):
        bid(cluster, f"job-{number}", **{**job, "submitted_s": now_s})  # type: ignore[arg-type]
        decided = step(cluster, now_s)
        until_s = now_s + min(wait_s, TICK_S) or now_s
        seen = cluster.snapshot(now_s)
        rows = np.flatnonzero((seen.jobs.priority == 0) & (seen.jobs.kind != GONE))
        used = (seen.shapes.request[seen.jobs.shape[rows]] * seen.jobs.running[rows, None]).sum(axis=0)
        tick_end_s = (now_s // TICK_S + 1) * TICK_S
        until_s = min(until_s, tick_end_s)
        earned += (used[CPU] * decided.core_price + used[GPU] * decided.gpu_price) * (until_s - now_s) / 3600
        left_s = tick_end_s - until_s
        prepaid = (used[CPU] * decided.core_price + used[GPU] * decided.gpu_price) * left_s / 3600
        assert math.isclose(cluster.prices.revenue, earned + prepaid, abs_tol=1e-9)
        now_s = tick_end_s if until_s == tick_end_s else until_s


@law
@given(markets())
def test_a_market_at_rest_stays_so(case: tuple[Cluster, list[tuple[float, dict[str, float]]]]) -> None:
    for _, decided, after in played(*case):
        again = plan(after)
        assert not again, [str(action.reason) for action in again.actions]
        assert (again.core_price, again.gpu_price) == (decided.core_price, decided.gpu_price)
