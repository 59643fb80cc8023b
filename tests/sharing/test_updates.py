"""A service is updated, and its node emptied, while clients ask: nobody is turned away, and no moment is without it."""

from __future__ import annotations

from dataclasses import replace

from sharing.world import World, free_port, load, web


def test_submitting_a_service_anew_replaces_its_replicas_and_turns_nobody_away(world: World) -> None:
    world.up("2x1cpu,2Gi")
    job = web(world, free_port(), most=2)
    world.submit(job)
    world.tide("resize", "web", "2")
    world.until(lambda: len(world.pids("web")) == 2, "both run")
    before = set(world.pids("web"))
    assert job.port is not None
    with load(job.port, rate=40.0) as clients:
        world.until(lambda: len(clients.requests) > 20, "it answers")
        world.submit(replace(job, environment={**job.environment, "EDITION": "second"}))
        world.until(lambda: len(now := set(world.pids("web"))) == 2 and not now & before, "both are new")
        seen = len(clients.requests)
        world.until(lambda: len(clients.requests) > seen + 20, "the new ones answer")
    assert not clients.failed
    assert "web" in {row["name"] for row in world.client.jobs(state="live")}


def test_a_node_that_is_emptied_loses_its_replicas_and_nobody_is_turned_away(world: World) -> None:
    world.up("3x1cpu,2Gi")
    job = web(world, free_port(), most=2)
    world.submit(job)
    world.tide("resize", "web", "2")
    world.until(lambda: len(world.pids("web")) == 2, "both run")
    nodes = {one["node"] for one in world.client.replicas("web")}
    assert job.port is not None and len(nodes) == 2
    with load(job.port, rate=40.0) as clients:
        world.until(lambda: len(clients.requests) > 20, "it answers")
        emptied = min(nodes)
        assert world.tide("node", "drain", emptied).returncode == 0
        world.until(
            lambda: (
                {one["node"] for one in world.client.replicas("web")} == {"node-0", "node-1", "node-2"} - {emptied}
                and len(world.pids("web")) == 2
            ),
            "both stand elsewhere",
        )
    assert not clients.failed
