"""Schedules of blows from a seed, and what each does to a run. Real signals to real processes."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from running import Running, strike

MODELS = ("pictures", "words", "uneven")
SCRIPT = Path(__file__).with_name("models.py")
STEPS = 240


@dataclass(frozen=True)
class Blow:
    """`what` is done `steps` after the one before, and a moment later, so that it may fall anywhere in a step."""

    what: str
    steps: int
    moment_seconds: float


@dataclass(frozen=True)
class Storm:
    """One schedule."""

    seed: int
    model: str
    workers: str
    options: tuple[object, ...]
    blows: tuple[Blow, ...]

    @property
    def repeat(self) -> str:
        """The command that runs it again."""
        return f".venv/bin/pytest -m '' 'tests/chaos/test_storms.py' -k 'storm-{self.seed}-'"


def storm(seed: int, nurseries: int = 99) -> Storm:
    """The schedule of that seed. Some blows follow upon each other at once, others find a run that has recovered.

    `nurseries`: how many of them may be killed, each of which costs seconds of imports.
    """
    rng = random.Random(seed)
    weights = [weight for weight, _ in BLOWS.values()]
    deeds = rng.choices(tuple(BLOWS), weights, k=rng.randint(4, 6))
    costly = [number for number, what in enumerate(deeds) if what in COSTLY]
    for number in costly[nurseries:]:
        deeds[number] = "kill the working"
    blows = tuple(
        Blow(what, rng.choice((0, 1, rng.randint(2, 20), rng.randint(20, 60))), rng.random() * 0.02) for what in deeds
    )
    options: tuple[object, ...] = ()
    if rng.random() < 0.5:
        options = ("--every", f"{rng.randint(5, 60)}steps", "--keep", 2)
    return Storm(seed, MODELS[seed % len(MODELS)], rng.choice(("1:4", "1:3", "2:4", "1:5")), options, blows)


def blow_through(storm: Storm, run: Running) -> list[str]:
    """Strike as the schedule says. Returns what was done, at which step."""
    rng, done, at = random.Random(storm.seed), [], 8
    for blow in storm.blows:
        at = max(at, run.step) + blow.steps
        if not run.until_step(at):
            break
        time.sleep(blow.moment_seconds)
        with suppress(OSError):  # whoever was asked may be dead already
            done.append(f"{blow.what} at step {run.step}: {BLOWS[blow.what][1](run, rng)}")
    return done


def _kill(run: Running, rng: random.Random, count: int) -> list[int]:
    working = list(run.cast().working.values())
    victims = rng.sample(working, min(count, len(working)))
    strike(victims)
    return victims


def _kill_one(run: Running, rng: random.Random) -> object:
    return _kill(run, rng, 1)


def _kill_several(run: Running, rng: random.Random) -> object:
    return _kill(run, rng, rng.randint(2, 3))


def _kill_the_working(run: Running, rng: random.Random) -> object:
    return _kill(run, rng, 64)


def _kill_the_parked(run: Running, rng: random.Random) -> object:
    del rng
    victims = list(run.cast().parked.values())
    strike(victims)
    return victims


def _kill_all_but_the_supervisor(run: Running, rng: random.Random) -> object:
    del rng
    cast = run.cast()
    strike([cast.nursery, *cast.workers])
    return cast


def _kill_all_but_tide_run(run: Running, rng: random.Random) -> object:
    del rng
    cast = run.cast()
    strike(cast.everybody)
    return cast


def _stop_one(run: Running, rng: random.Random) -> object:
    working = list(run.cast().working.values())
    victims = rng.sample(working, min(1, len(working)))
    strike(victims, signal.SIGSTOP)
    return victims


def _stop_the_parked(run: Running, rng: random.Random) -> object:
    del rng
    victims = list(run.cast().parked.values())
    strike(victims, signal.SIGSTOP)
    return victims


def _kill_the_nursery(run: Running, rng: random.Random) -> object:
    del rng
    nursery = run.cast().nursery
    strike(nursery)
    return nursery


def _kill_the_supervisor(run: Running, rng: random.Random) -> object:
    del rng
    supervisor = run.cast().supervisor
    strike(supervisor)
    return supervisor


def _stop_the_supervisor(run: Running, rng: random.Random) -> object:
    del rng
    supervisor = run.cast().supervisor
    strike(supervisor, signal.SIGSTOP)
    return supervisor


def _kill_the_supervisor_and_one(run: Running, rng: random.Random) -> object:
    _kill_the_supervisor(run, rng)
    return _kill_one(run, rng)


def _resize(run: Running, rng: random.Random) -> object:
    return run.ask(do="resize", workers=rng.randint(1, 4))


# How often in proportion, and the deed. A dead nursery costs seconds of imports, so it dies less often.
BLOWS: dict[str, tuple[int, Callable[[Running, random.Random], object]]] = {
    "kill one": (8, _kill_one),
    "kill several": (4, _kill_several),
    "kill the working": (4, _kill_the_working),
    "kill the parked": (2, _kill_the_parked),
    "kill all but the supervisor": (1, _kill_all_but_the_supervisor),
    "kill all but tide run": (1, _kill_all_but_tide_run),
    "stop one": (3, _stop_one),
    "stop the parked": (2, _stop_the_parked),
    "kill the nursery": (1, _kill_the_nursery),
    "kill the supervisor": (4, _kill_the_supervisor),
    "stop the supervisor": (2, _stop_the_supervisor),
    "kill the supervisor and one": (2, _kill_the_supervisor_and_one),
    "resize": (6, _resize),
}
COSTLY = ("kill all but the supervisor", "kill all but tide run", "kill the nursery")
