"""Sharing, seen from the records: the real loop and planner on an engine of virtual time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pool.whole import World, batch, node, service, training
from springtide.pool.records import State, Wish
from springtide.spec import Bid, Job, Kind, Node, Priority, Range, Resources, Restart, Team, to_data
from springtide.spec.sharing import Pool

GIB = 2**30


def four_nodes(folder: Path, **more: object) -> World:
    return World(folder, nodes=tuple(node(f"n{at}", 1, 2 * GIB) for at in range(4)), **more)  # type: ignore[arg-type]


def test_training_fills_what_a_service_leaves(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(), training(steps=4000))
    world.pass_(3.0)
    assert (world.count("web"), world.count("fill")) == (1, 3)


def test_a_service_that_grows_has_its_replicas_in_the_rounds_that_follow_at_once(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(high=3), training(steps=4000))
    world.pass_(3.0)
    world.pin("web", 3, 3)
    world.pass_(0.2)
    assert (world.count("web"), world.count("fill")) == (3, 1)
    world.pin("web", 1, 1)
    world.pass_(5.0)
    assert (world.count("web"), world.count("fill")) == (1, 3)


def test_who_shrinks_is_told_for_whom(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(high=3), training(steps=4000))
    world.pass_(3.0)
    world.pin("web", 3, 3)
    world.pass_(1.0)
    sentences = [event.sentence for event in world.owners.events(job_id=world.job("fill").id)]
    assert any("fill shrinks to 1" in sentence and "web" in sentence for sentence in sentences), sentences


def test_training_ends_with_its_digest_and_its_record_stays(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(training(steps=50))
    world.pass_(30.0)
    record = world.job("fill")
    assert record.state == State.DONE
    assert record.result is not None and record.result["digest"] == f"digest-of-{record.id}"


def test_a_name_is_free_again_once_its_job_is_over(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(batch(seconds=1.0))
    world.pass_(5.0)
    world.submit(batch(seconds=1.0))
    world.pass_(5.0)
    assert [record.state for record in world.owners.jobs(name="work")] == [State.DONE, State.DONE]


def test_a_paused_run_holds_nothing_and_goes_on_where_it_was(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(training(steps=2000))
    world.pass_(5.0)
    world.wish("fill", Wish.PAUSE)
    world.pass_(5.0)
    assert world.job("fill").state == State.PAUSED and world.count("fill") == 0
    step = world.job("fill").learned["step"]
    world.wish("fill", Wish.RUN)
    world.pass_(5.0)
    seen = world.engine.observe().jobs[world.job("fill").id].training
    assert seen is not None and seen.step > step > 0


def test_a_job_that_keeps_failing_is_tried_less_and_less_often_and_then_given_up(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(batch(seconds=1000.0, restart=Restart(policy="on-failure", limit=3)))
    for _ in range(4):
        world.pass_(10.0)
        for name in world.engine.running()[world.job("work").id]:
            world.engine.kill(world.job("work").id, name)
    world.pass_(10.0)
    record = world.job("work")
    assert record.state == State.FAILED
    assert "SIGKILL" in record.reason and "3 times" in record.reason


def test_a_job_that_is_never_to_be_started_again_fails_at_once(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(batch(seconds=1000.0, replicas=2, restart=Restart(policy="never")))
    world.pass_(2.0)
    world.engine.kill(world.job("work").id, "r1")
    world.pass_(10.0)
    assert world.job("work").state == State.FAILED
    assert world.count("work") == 0


def test_a_batch_of_three_is_done_when_three_have_done_their_work(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(batch(replicas=3, seconds=5.0))
    world.pass_(20.0)
    record = world.job("work")
    assert record.state == State.DONE and record.result == {"exit_code": 0, "replicas": 3}
    assert sum(world.engine.starts.values()) == 3


def test_a_run_killed_from_outside_goes_on_and_fails_nobody(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(training(steps=4000))
    for _ in range(6):
        world.pass_(5.0)
        world.engine.kill(world.job("fill").id, f"run-{world.job('fill').attempt}")
    world.pass_(200.0)
    assert world.job("fill").state == State.DONE


def test_a_rolling_update_leaves_no_moment_with_two_replicas_away(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(low=3, high=3))
    world.pass_(3.0)
    record = world.job("web")
    world.owners.change(replace(record, revision=2))
    fewest = 3
    for _ in range(200):
        world.pass_(0.1)
        fewest = min(fewest, world.count("web"))
    assert {one.revision for one in world.job("web").replicas} == {2}
    assert fewest == 2


def test_pausing_the_pool_stops_everything_and_the_next_loop_starts_it_again(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(), training(steps=4000))
    world.pass_(3.0)
    world.loop._down = True
    world.pass_(10.0)
    assert world.loop._ended.is_set() and not any(world.engine.running().values())
    world.up()
    world.pass_(5.0)
    assert (world.count("web"), world.count("fill")) == (1, 3)


def test_an_emptied_node_keeps_nothing_that_can_move(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(low=2, high=2), training(steps=8000))
    world.pass_(3.0)
    emptied = world.job("web").replicas[0].node
    world.owners.configure("drained", [emptied])
    world.pass_(20.0)
    assert world.count("web") == 2 and world.count("fill") == 1
    assert all(one.node != emptied for name in ("web", "fill") for one in world.job(name).replicas)
    world.owners.configure("drained", [])
    world.pass_(20.0)
    assert world.count("fill") == 2


def _with_teams(world: World, *teams: Team, floor: Bid | None = None) -> None:
    world.owners.configure("pool", to_data(Pool(teams=teams, floor=floor or Bid())))


def test_a_guarantee_is_taken_back_from_who_borrowed(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    _with_teams(world, Team(name="speech", guarantee=Resources(cpu=2)), Team(name="vision"))
    world.submit(*(training(f"v{at}", 1, 1, 9000, team="vision") for at in range(4)))
    world.pass_(5.0)
    assert sum(world.count(f"v{at}") for at in range(4)) == 4
    world.submit(*(training(f"s{at}", 1, 1, 9000, team="speech") for at in range(2)))
    world.pass_(5.0)
    assert sum(world.count(f"s{at}") for at in range(2)) == 2
    assert sum(world.count(f"v{at}") for at in range(4)) == 2


def test_spot_work_stops_when_its_budget_is_spent(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    _with_teams(world, Team(name="poor", budget=0.5), floor=Bid(per_core_hour=6.0))
    spot = Job(
        kind=Kind.STREAM, name="spot", command=("go",), team="poor", priority=Priority.SPOT,
        bid=Bid(per_core_hour=10.0), replicas=Range(1, 1),
    )  # fmt: skip
    world.submit(spot)
    world.pass_(30.0)
    assert world.count("spot") == 1
    world.pass_(600.0, step_s=5.0)
    assert world.count("spot") == 0
    assert "budget" in world.job("spot").reason or "budget" in world.loop.records[world.job("spot").id].reason
    assert world.loop.team_use()["poor"].spent <= 0.5 + 1e-9


def test_money_and_history_outlive_the_pool_server(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    _with_teams(world, Team(name="rich", budget=100.0), floor=Bid(per_core_hour=6.0))
    world.submit(
        Job(kind=Kind.STREAM, name="spot", command=("go",), team="rich", priority=Priority.SPOT, replicas=Range(1, 1))
    )
    world.pass_(130.0, step_s=5.0)
    spent = world.loop.team_use()["rich"].spent
    assert spent > 0
    world.up()
    world.pass_(1.0)
    assert world.loop.team_use()["rich"].spent == pytest.approx(spent)


def test_use_is_booked_as_asked_given_and_used(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(low=2, high=2))
    world.pass_(60.0)
    uses = [use for use in world.owners.usage(0.0) if use.resource == "core"]
    assert sum(use.allocated_s for use in uses) == pytest.approx(2 * 50, rel=0.25)
    assert sum(use.used_s for use in uses) == pytest.approx(sum(use.allocated_s for use in uses), rel=0.25)


def test_what_waited_is_booked_as_asked_and_not_as_given(tmp_path: Path) -> None:
    world = World(tmp_path, nodes=(node("n0", 1),))
    world.submit(batch("first", seconds=60.0))
    world.pass_(2.0)
    world.submit(batch("second", seconds=30.0))
    world.pass_(200.0)
    uses = [use for use in world.owners.usage(0.0) if use.resource == "core" and use.job == "second"]
    assert sum(use.allocated_s for use in uses) == pytest.approx(30, abs=3)
    assert sum(use.asked_s for use in uses) == pytest.approx(30 + 58, abs=5)


def test_a_clock_that_jumps_back_starts_nothing_twice(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(service(), training(steps=4000))
    world.pass_(5.0)
    world.skew_s = -3600.0
    world.pass_(5.0)
    assert (world.count("web"), world.count("fill")) == (1, 3)
    assert not world.engine.violations


def test_what_leans_on_the_disk_meets_what_leans_on_cores_and_it_is_told(tmp_path: Path) -> None:
    small = Resources(cpu=2, memory=8 * GIB, disk=200e6, network=1e9)
    world = World(tmp_path, nodes=tuple(Node(name=name, resources=small) for name in ("a", "b")))
    disk, cores = Resources(cpu=0.2, disk=150e6), Resources(cpu=1.8)
    world.submit(*(batch(f"sort-{at}", seconds=60.0, resources=disk) for at in range(2)))
    world.submit(*(batch(f"sum-{at}", seconds=60.0, resources=cores) for at in range(2)))
    world.pass_(3.0)
    for node_name in ("a", "b"):
        here = [
            name for name in ("sort-0", "sort-1", "sum-0", "sum-1") if world.job(name).replicas[0].node == node_name
        ]
        assert len(here) == 2 and {name[:3] for name in here} == {"sor", "sum"}
    told = [event.sentence for event in world.owners.events() if event.kind == "start"]
    assert any("which leans on" in sentence for sentence in told), told


def test_a_pool_that_comes_back_lets_training_grow_only_once_loads_can_be_known(tmp_path: Path) -> None:
    world = four_nodes(tmp_path)
    world.submit(training(steps=9000), batch(seconds=8.0, priority=Priority.PRODUCTION))
    world.pass_(7.0)
    assert world.count("fill") == 3
    world.engine.advance(2.0)
    world.up()
    world.pass_(3.0)
    assert world.count("fill") == 3 and world.job("work").state == State.DONE
    world.pass_(10.0)
    assert world.count("fill") == 4
