"""A service whose load rises has its replicas in the tick that sees it; training gives way and loses nothing."""

from __future__ import annotations

from collections.abc import Callable

from sharing.world import World, free_port, load, training, web

RULES = "scale_down: 3s\n"
STEPS = 600


def test_training_gives_way_to_a_rising_load_and_grows_back(world: World, undisturbed: Callable[..., str]) -> None:
    world.up("4x1cpu,2Gi", RULES)
    port = free_port()
    world.submit(web(world, port, most=3, carries=20.0), training(world, "fill", 4, steps=STEPS))
    world.until(lambda: (world.row("web")["replicas"], world.row("fill")["replicas"]) == (1, 3), "training fills it")
    first = world.pids("web")
    with load(port, rate=10.0) as clients:
        world.until(lambda: len(clients.requests) > 20, "it answers")
        assert world.planned("web", "fill") == (1, 3)
        clients.rate = 80.0
        world.until(lambda: len(world.pids("web")) == 3 and len(world.pids("fill")) == 1, "the service has grown")
        new = set(world.pids("web")) - set(first)
        world.until(lambda: all(clients.by(pid) for pid in new), "new replicas answer")
        clients.rate = 10.0
        world.until(lambda: world.planned("web", "fill") == (1, 3), "training grows back")
        world.until(lambda: len(world.pids("fill")) == 3, "with workers")
        world.hurry()
        digest = world.digest("fill")
    assert not clients.failed
    assert digest == undisturbed(world.folder / "train_it.py", "--steps", STEPS)
    _one_plan(world)
    answered = clients.by(min(new, key=lambda pid: clients.by(pid).done_s))  # type: ignore[union-attr]
    grown = world.events("web", "grow")[0]
    print(f"{answered.done_s - grown['time_s']:.2f} s from the plan to the first answer of a new replica")  # type: ignore[union-attr]


def _one_plan(world: World) -> None:
    """What the service got and what training gave up carry one time and one cause."""
    grown = {event["time_s"] for event in world.events("web", "grow")}
    given = [event for event in world.events("fill", "shrink") if "for web (production)" in event["sentence"]]
    assert given and {event["time_s"] for event in given} <= grown
    assert "its load needs no more than 1 replica since 3 s" in world.told("web", "shrink")
