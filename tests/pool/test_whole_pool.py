"""Nothing is lost, doubled or over capacity, whatever crashes, refuses, tells late or twice; and it comes to rest.

To repeat a seed: `pytest tests/pool/test_whole_pool.py -k "[17]"`.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from pool.whole import World, anything
from springtide.engines.simulated import Faults
from springtide.pool import carrying
from springtide.pool.records import JobRecord, ReplicaRecord, State, Step, Wish
from springtide.spec.job import Kind

QUICK, SLOW = range(100), range(100, 600)
FAULTS = Faults(refuse=0.1, late_s=3.0, doubled=0.2, crash=0.05)
LONG_S = 2_000.0  # by then work that fits has been done
_ENDING = (Kind.BATCH, Kind.TRAINING)


def _troubled(folder: Path, seed: int) -> World:
    """A pool that had a bad day: people, faults, crashes and a clock that jumps."""
    chance = random.Random(seed)
    world = World(folder, seed, faults=FAULTS, crash=0.05)
    number = 0
    for _ in range(20):
        for _ in range(chance.randint(0, 2)):
            number += 1
            world.submit(anything(chance, number))
        names = list(world.submitted)
        if names and chance.random() < 0.3:
            world.wish(chance.choice(names), chance.choice(list(Wish)))
        if names and chance.random() < 0.2:
            least = chance.randint(1, 3)
            world.pin(chance.choice(names), least, least + chance.randint(0, 2))
        running = [(job, name) for job, some in world.engine.running().items() for name in some]
        if running and chance.random() < 0.1:
            world.engine.kill(*chance.choice(running))
        if chance.random() < 0.1:
            world.skew_s = chance.uniform(-100.0, 100.0)
        world.pass_(chance.uniform(0.1, 10.0))
    return world


def _wrong(world: World) -> list[str]:
    """What must not be, once faults have stopped for long."""
    found = list(world.engine.violations)
    running = {job for job, names in world.engine.running().items() if names}
    for job_id, state in world.states().items():
        record = world.job(job_id)
        going = record.wish == Wish.RUN and any(one.step == Step.STARTED for one in record.replicas)
        if (job_id in running) != going:
            found.append(f"{job_id} is {state}: recorded as {'' if going else 'not '}running, which is not so")
        if any(one.step != Step.STARTED for one in record.replicas):
            found.append(f"{job_id} never settles: {record.replicas}")
        if record.wish == Wish.CANCEL and not state.over:
            found.append(f"{job_id} was cancelled and is {state}")
        if record.wish == Wish.PAUSE and not state.over and state != State.PAUSED:
            found.append(f"{job_id} was paused and is {state}")
        if state == State.RUNNING and world.submitted[job_id] in _ENDING:
            found.append(f"{job_id} runs for ever")
        if state == State.DONE and world.submitted[job_id] == Kind.TRAINING:
            done = record.result or {}
            if done.get("digest") != f"digest-of-{job_id}":
                found.append(f"{job_id} is done without its digest: {done}")
    return found


def _holds(folder: Path, seed: int) -> None:
    world = _troubled(folder, seed)
    world.settle(LONG_S)
    assert not _wrong(world), f"seed {seed}"


@pytest.mark.parametrize("seed", QUICK)
def test_no_job_is_lost_or_doubled_whatever_fails(tmp_path: Path, seed: int) -> None:
    _holds(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_no_job_is_lost_or_doubled_in_five_hundred_other_days(tmp_path: Path, seed: int) -> None:
    _holds(tmp_path, seed)


def test_faults_and_crashes_do_happen_in_these_days(tmp_path: Path) -> None:
    worlds = [_troubled(tmp_path / str(seed), seed) for seed in range(3)]
    assert sum(world.crashes for world in worlds) > 3
    assert all(len(world.submitted) > 5 for world in worlds)


def test_a_start_that_does_not_wait_for_who_leaves_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hasty(room: carrying.Room, record: JobRecord, replica: ReplicaRecord) -> bool:
        return True

    monkeypatch.setattr(carrying.Room, "take", hasty)
    assert any(_troubled(tmp_path / str(seed), seed).engine.violations for seed in range(6))


def test_a_replica_that_is_started_under_a_new_name_after_a_crash_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine's memory of names is what makes a repeated start harmless; without it work would be doubled."""
    world = World(tmp_path)
    monkeypatch.setattr(type(world.engine), "_begin", _forgetful)
    from pool.whole import batch

    world.submit(batch("work", seconds=100.0))
    world.pass_(3.0)
    world.engine._processes.clear()
    world.pass_(3.0)
    assert world.engine.violations


def _forgetful(engine, known, task, name, places):  # type: ignore[no-untyped-def]
    engine.starts[task.id, name] += 1
    if engine.starts[task.id, name] > 1:
        engine.violations.append("twice")
