"""Who gives way in a full pool, in which order, and what he is told."""

from __future__ import annotations

from sharing.world import World, batch, spot, training
from springtide.spec import Priority, Resources

NODES = "7x250mcpu,2Gi"
SMALL = Resources(cpu=0.25, memory=256 * 2**20)
GUARANTEED = "teams:\n  - {name: shop, guarantee: {cpu: 750m}}\n  - {name: lab}\n"


def test_surplus_gives_way_first_then_spot_by_bid_then_what_loses_least(world: World) -> None:
    world.up(NODES, "floor: {per_core_hour: 0.01}\n")
    world.submit(batch("old", resources=SMALL))
    world.submit(spot("dear", 0.05, resources=SMALL), spot("cheap", 0.02, resources=SMALL))
    world.until(lambda: world.planned("old", "dear", "cheap") == (1, 1, 1), "they run")
    world.submit(batch("young", resources=SMALL))
    world.until(lambda: world.planned("young") == (1,), "it runs, too")
    world.submit(training(world, "fill", 3, resources=SMALL, steps=10_000))
    everybody = ("fill", "cheap", "dear", "young", "old")
    world.until(lambda: world.planned(*everybody) == (3, 1, 1, 1, 1), "the pool is full")
    world.until(lambda: len(world.pids("fill")) == 3, "all of it works")
    left = [(2, 1, 1, 1, 1), (1, 1, 1, 1, 1), (1, 0, 1, 1, 1), (1, 0, 0, 1, 1), (0, 0, 0, 1, 1), (0, 0, 0, 0, 1)]
    for number, planned in enumerate(left):
        _urgent(world, f"urgent-{number}")
        assert world.planned(*everybody) == planned, world.story()
    lost = {name: world.told(name, "suspend") for name in everybody}
    assert "fill shrinks to 2 replicas for urgent-0 (standard)" in world.told("fill", "shrink")
    assert "fill shrinks to 1 replica for urgent-1 (standard)" in world.told("fill", "shrink")
    assert "preempted by urgent-2 (standard)" in lost["cheap"] and "replica-seconds are lost" in lost["cheap"]
    assert "preempted by urgent-3 (standard)" in lost["dear"]
    assert "preempted by urgent-4 (standard); 0 replica-seconds are lost" in lost["fill"]
    assert "preempted by urgent-5 (standard)" in lost["young"] and not lost["old"]
    assert all(world.client.explain(name)["sentence"] for name in everybody)


def test_a_guarantee_is_taken_back_from_borrowers_by_shrinking_them(world: World) -> None:
    world.up("5x250mcpu,2Gi", GUARANTEED)
    world.submit(training(world, "spread", 5, team="lab", resources=SMALL, steps=10_000))
    world.until(lambda: world.row("spread")["replicas"] == 5, "lab borrows what shop is guaranteed")
    world.submit(*(batch(f"shop-{number}", team="shop", resources=SMALL) for number in range(3)))
    world.until(lambda: all(world.row(f"shop-{number}")["replicas"] == 1 for number in range(3)), "shop has it back")
    assert world.planned("spread") == (2,)
    assert world.told("spread", "shrink").count("shrinks to") == len(world.events("spread", "shrink"))
    assert not world.events("spread", "suspend")
    held = {row["name"]: row["held"]["cpu"] for row in world.client.teams() if row["held"]}
    assert held == {"shop": 0.75, "lab": 0.5}


def test_minima_that_were_borrowed_are_taken_back_and_both_teams_are_named(world: World) -> None:
    world.up("3x250mcpu,2Gi", GUARANTEED)
    world.submit(*(batch(f"lab-{number}", team="lab", resources=SMALL) for number in range(3)))
    world.until(lambda: world.planned("lab-0", "lab-1", "lab-2") == (1, 1, 1), "lab borrows")
    world.submit(batch("mine", team="shop", resources=SMALL))
    world.until_row("mine", state="running", replicas=1)
    assert sum(world.planned("lab-0", "lab-1", "lab-2")) == 2
    told = "\n".join(event["sentence"] for event in world.events(None, "suspend"))
    assert "gives way to mine (experiment): team shop is inside its guarantee, team lab had borrowed" in told


def _urgent(world: World, name: str, resources: Resources = SMALL) -> None:
    world.submit(batch(name, priority=Priority.STANDARD, resources=resources))
    world.until_row(name, state="running", replicas=1)
