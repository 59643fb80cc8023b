"""Two teams that want more than there is have what their weights say; and a guarantee waits for nobody who borrows."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from sharing.world import World
from springtide.spec import Job, Kind, Range, Resources

SMALL = Resources(cpu=0.125, memory=64 * 2**20)
NODES = "12x125mcpu,1Gi"
REPLICAS = Range(4, 4)  # of a job: three run at a time, where six want to
WINDOW_S = 20.0
OFF = 0.05
SLOW_S = 3.0  # after which a plan that could be made was made: three ticks
Held = dict[str, int]


@pytest.mark.slow
def test_two_teams_with_three_jobs_each_have_had_what_their_weights_say(world: World) -> None:
    world.up(NODES, "teams:\n  - {name: shop, weight: 2}\n  - {name: lab, weight: 1}\n")
    looks: list[Held] = []

    def look() -> None:
        looks.append(_held(world))

    _work(world, {"shop": 3, "lab": 3}, look)
    share = sum(held["shop"] for held in looks) / sum(sum(held.values()) for held in looks)
    assert abs(share - 2 / 3) <= OFF, f"{share:.3f}"
    rows = {row["team"]: row["core_s"]["allocated"] for row in world.client.usage()["rows"]}
    # Usage counts from the first start on, when not everybody had come.
    assert abs(rows["shop"] / (rows["shop"] + rows["lab"]) - 2 / 3) <= 2 * OFF, rows
    print(f"shop held {share:.3f} of what was held; it was allocated {rows['shop'] / (rows['shop'] + rows['lab']):.3f}")


@pytest.mark.slow
def test_nobody_inside_his_guarantee_waits_while_another_borrows(world: World) -> None:
    world.up(NODES, "teams:\n  - {name: shop, guarantee: {cpu: 1}}\n  - {name: lab}\n")
    waited: list[str] = []
    held: list[Held] = []

    def look() -> None:
        rows = world.client.jobs(state="live")
        held.append(_held(world))
        for row in rows:
            late = row["planned"] == 0 and time.time() - row["submitted_s"] > SLOW_S
            if row["team"] == "shop" and late and held[-1]["lab"]:
                waited.append(f"{row['name']}: {row['reason']}")

    _work(world, {"lab": 3, "shop": 2}, look)
    assert not waited, f"{waited[:5]}{world.story()}"
    assert any(one["lab"] > REPLICAS.maximum for one in held), "lab has borrowed"
    assert "team shop is inside its guarantee, team lab had borrowed" in "\n".join(
        event["sentence"] for event in world.events(None, "suspend")
    )


def _work(world: World, users: Held, look: Callable[[], None]) -> None:
    """So many users of each team have one job at a time, one after the other, while the window lasts."""
    number, ends_s = 0, time.monotonic() + WINDOW_S
    while time.monotonic() < ends_s:
        live = [row["team"] for row in world.client.jobs(state="live")]
        for team, count in users.items():
            for _ in range(count - live.count(team)):
                number += 1
                world.submit(_job(f"{team}-{number}", team, number))
        look()
        time.sleep(0.05)


def _job(name: str, team: str, number: int) -> Job:
    """Takes a second or two, each another time."""
    seconds = 1.0 + 0.37 * (number % 4)
    return Job(
        kind=Kind.BATCH, name=name, team=team, replicas=REPLICAS, resources=SMALL, command=("sleep", f"{seconds:.2f}")
    )


def _held(world: World) -> Held:
    found = {"shop": 0, "lab": 0}
    for row in world.client.jobs(state="live"):
        found[row["team"]] += row["planned"]
    return found
