"""Whatever of a pool is killed, and whenever: requests are answered, batches are done once, training has its bits.

The blows are SIGKILL to real processes of a real pool, in an order that follows from the seed.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import running
from sharing.world import Clients, World, a_world, batch, free_port, load, training, web
from springtide.spec import Job, Range, Resources
from springtide.spec.errors import SpringtideError

QUICK, SLOW = (1,), (11, 12)
QUICK_S, SLOW_S = 10.0, 45.0
QUARTER = Resources(cpu=0.25, memory=256 * 2**20)
HALF = Resources(cpu=0.5, memory=512 * 2**20)
RUNS = {"first": 300, "second": 420}  # steps
LINE = "import sys, time; time.sleep(float(sys.argv[1])); open(sys.argv[2], 'a').write(sys.argv[3] + chr(10))"


@dataclass
class Storm:
    """What was done so far, and what follows from it."""

    world: World
    rng: random.Random
    clients: Clients
    blows: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)
    killed_replicas: int = 0

    @property
    def lines(self) -> Path:
        return self.world.home / "lines.txt"

    def blow_for(self, span_s: float) -> None:
        """Blow after blow, some at once after the one before."""
        ends_s = time.monotonic() + span_s
        while time.monotonic() < ends_s:
            time.sleep(self.rng.choice((0.0, 0.3, 1.0, 2.0)))
            with contextlib.suppress(SpringtideError):
                self.submit()
            names = list(BLOWS)
            name = self.rng.choices(names, [BLOWS[name][0] for name in names])[0]
            with contextlib.suppress(SpringtideError, IndexError, KeyError):  # nobody is there to be struck
                self.blows.append(f"{name}: {BLOWS[name][1](self)}")

    def submit(self) -> None:
        """A batch that must be done once."""
        name = f"line-{len(self.batches)}"
        self.batches.append(name)
        words = (f"{self.rng.uniform(0.1, 1.5):.2f}", str(self.lines), name)
        self.world.client.submit([batch(name, LINE, resources=QUARTER, args=words)], key=name)

    # --- blows: each returns whom it struck

    def worker(self, how_many: int = 1) -> list[int]:
        pids = self.world.pids(self.rng.choice(list(RUNS)))
        chosen = self.rng.sample(pids, min(how_many, len(pids)))
        running.strike(chosen)
        return chosen

    def supervisor(self) -> int:
        pid = self.world.row(self.rng.choice(list(RUNS)))["supervisor"] or 0
        running.strike(pid)
        return int(pid)

    def nursery(self) -> int:
        return self._named("nursery.json")

    def launcher(self) -> int:
        pids = [pid for pid, words in self.world.processes().items() if "engines.local.training" in words]
        chosen = self.rng.choice(sorted(pids))
        running.strike(chosen)
        return chosen

    def shim(self) -> str:
        shims = self.world.shims()
        job = self.rng.choice(sorted(shims))
        running.strike(shims[job])
        return f"{job} ({shims[job]})"

    def replica(self) -> int:
        pid = self.rng.choice(self.world.pids("web"))
        self.killed_replicas += 1
        running.strike(pid)
        return pid

    def server(self) -> int:
        """Something else may be struck while it is away."""
        pid = int(self.world.client.health()["pid"])
        running.strike(pid)
        time.sleep(self.rng.choice((0.0, 0.5, 1.5)))
        if self.rng.random() < 0.5:
            self.blows.append(f"meanwhile shim: {self.shim()}")
        self.world.up_again()
        return pid

    def _named(self, file: str) -> int:
        paths = sorted((self.world.home / "pool" / "jobs").glob(f"*/run/runs/*/{file}"))
        pid = running.kept(self.rng.choice(paths))
        running.strike(pid)
        return pid


BLOWS: dict[str, tuple[float, Callable[[Storm], object]]] = {
    "worker": (4.0, Storm.worker),
    "all workers": (1.0, lambda storm: storm.worker(99)),
    "supervisor": (2.0, Storm.supervisor),
    "nursery": (1.0, Storm.nursery),
    "launcher": (0.5, Storm.launcher),
    "shim": (3.0, Storm.shim),
    "replica": (1.0, Storm.replica),
    "server": (2.0, Storm.server),
}


@pytest.mark.parametrize("seed", QUICK)
def test_a_short_storm_loses_no_request_no_batch_and_no_bit(
    seed: int, home: Path, undisturbed: Callable[..., str]
) -> None:
    with a_world(home) as world:
        weather(world, seed, QUICK_S, undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SLOW)
def test_a_long_storm_loses_no_request_no_batch_and_no_bit(
    seed: int, home: Path, undisturbed: Callable[..., str]
) -> None:
    with a_world(home) as world:
        weather(world, seed, SLOW_S, undisturbed)


def weather(world: World, seed: int, span_s: float, undisturbed: Callable[..., str]) -> None:
    world.up("4x500mcpu,2Gi")
    port = free_port()
    world.submit(_web(world, port), *(training(world, name, 2, steps=s, resources=HALF) for name, s in RUNS.items()))
    world.until(lambda: all(world.row(name).get("step") for name in RUNS), "both train")
    with load(port, rate=20.0) as clients:
        storm = Storm(world, random.Random(seed), clients)
        try:
            storm.blow_for(span_s)
            world.hurry()
            _calm(storm, undisturbed)
        except (AssertionError, SpringtideError) as error:
            struck = "\n".join(storm.blows)
            raise AssertionError(f"{error}\nseed {seed}\n{struck}\n{world.story()}") from error
    print(f"seed {seed}: {len(storm.blows)} blows, {len(clients.requests)} requests, {len(clients.failed)} failed with "
          f"{storm.killed_replicas} replicas killed, {len(storm.batches)} batches")  # fmt: skip


def _calm(storm: Storm, undisturbed: Callable[..., str]) -> None:
    """After the storm everything comes to its end."""
    world = storm.world
    digests = {name: world.digest(name) for name in RUNS}
    assert digests == {name: undisturbed(world.folder / "train_it.py", "--steps", s) for name, s in RUNS.items()}
    known = [name for name in storm.batches if world.row(name)]
    for name in known:
        world.until_row(name, state="done")
    assert sorted(storm.lines.read_text().split()) == sorted(known), "each batch that was taken is done, once"
    answered = len(storm.clients.requests)
    world.until(lambda: len(storm.clients.requests) > answered, "the service answers")
    world.until_row("web", state="running", replicas=2)
    assert len(storm.clients.failed) <= storm.killed_replicas, storm.clients.failed


def _web(world: World, port: int) -> Job:
    return web(world, port, resources=QUARTER, replicas=Range(2, 2))
