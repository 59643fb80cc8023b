"""Spot jobs buy what is left, at one price; who bids most runs, and who has spent his budget stops."""

from __future__ import annotations

import pytest

from sharing.world import World, spot
from springtide.spec import Resources

SMALL = Resources(cpu=0.25, memory=64 * 2**20)
FLOOR = 3600.0  # per core-hour: a core-second costs 1, a replica at least 0.5 in a tick of 2 s
RULES = f"""
floor: {{per_core_hour: {FLOOR:g}}}
tick: 2s
teams:
  - {{name: rich}}
  - {{name: poor, budget: 4}}
"""


def test_the_highest_bids_run_and_all_pay_the_lowest_of_them(world: World) -> None:
    world.up("2x250mcpu,1Gi", RULES)
    bids = {"low": 4000.0, "middle": 6000.0, "high": 9000.0}
    world.submit(*(spot(name, bid, team="rich", resources=SMALL) for name, bid in bids.items()))
    world.until(lambda: world.planned("low", "middle", "high") == (0, 1, 1), "the highest bids run")
    world.until(lambda: world.client.prices()["core"] == bids["middle"], "a tick has this price")
    world.until(lambda: "outbid: it bids 4000 per core-hour, the price is 6000" in world.row("low")["reason"], "told")
    world.client.update("low", bid={"per_core_hour": 10_000.0})
    world.until(
        lambda: world.planned("low", "middle", "high") == (1, 0, 1), "who raises his bid takes a lower one's place"
    )
    world.until(lambda: world.client.prices()["core"] == bids["high"], "and the price rises")
    assert world.told("middle", "suspend")


@pytest.mark.slow
def test_who_has_spent_his_budget_stops_and_another_has_the_room(world: World) -> None:
    world.up("1x250mcpu,1Gi", RULES)
    world.submit(spot("generous", 9000.0, team="poor", resources=SMALL))
    world.until_row("generous", replicas=1)
    world.submit(spot("thrifty", FLOOR, team="rich", resources=SMALL))
    world.until(lambda: "outbid" in world.row("thrifty")["reason"], "less is bid")
    world.until(lambda: world.planned("generous", "thrifty") == (0, 1), "the budget is spent")
    assert "waits for budget: team poor has" in world.row("generous")["reason"]
    (poor,) = (row for row in world.client.teams() if row["name"] == "poor")
    assert 0 < poor["spent"] <= 4.0
    world.until_row("thrifty", state="running", replicas=1)
