"""What one team's job does wrong is its own trouble: it is named, and its neighbours keep their pace."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest

from sharing.world import Clients, World, batch, free_port, load, training, web
from springtide.spec import Job, Priority, Resources, Restart

RULES = "teams:\n  - {name: shop}\n  - {name: lab}\n"
NODES = "3x500mcpu,1Gi"
MARGIN = 0.1  # by which a neighbour may be slower, beside what windows without an offender differ among themselves
WINDOW_S = 2.5
PAIRS, MOST_PAIRS = 3, 8  # of windows, without and with the offender, in turns
FILLS = "import os\nfile = open(os.environ['TIDE_SCRATCH'] + '/file', 'wb')\nwhile True: file.write(bytes(1 << 20))"
QUIET_CORES = 0.3  # in use by others, at most, where a tenth can be told
OFFENDERS = {  # what it runs, and what is said of it
    "hog": ("held = []\nwhile True: held.append(bytearray(1 << 20))", "out of memory"),
    "bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "out of memory"),
    "flood": ("import os\nwhile True: os.write(1, (b'x' * 999 + b'\\n') * 64)", "writes more than 4 MB/s of log"),
    "filler": (FILLS, "of scratch, more than its"),
    "crash": ("raise SystemExit(3)", "exit code 3"),
}


@dataclass(frozen=True)
class Slower:
    """A neighbour beside the offender, against the windows before and after: medians over all pairs of windows."""

    ratio: float
    noise: float  # by which two windows without an offender differ

    @property
    def fine(self) -> bool:
        return self.ratio <= 1.0 + MARGIN + self.noise


def slower(calm: list[float], beside: list[float]) -> Slower:
    """`calm` has one window more than `beside`."""
    around = [(before + after) / 2 for before, after in pairwise(calm)]
    ratio = median(with_it / without for with_it, without in zip(beside, around, strict=True))
    return Slower(ratio, median(abs(after / before - 1.0) for before, after in pairwise(calm)))


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFENDERS)
def test_neighbours_of_an_offender_keep_their_pace_and_it_is_named(name: str, world: World) -> None:
    code, said = OFFENDERS[name]
    others = _others_cores()
    world.up(NODES, RULES)
    port = free_port()
    half = Resources(cpu=0.5, memory=512 * 2**20)
    shop = web(world, port, team="shop", resources=half, environment={"ROUNDS": "5000"})
    world.submit(shop, training(world, "fill", 1, steps=1_000_000, team="shop", resources=half))
    world.hurry()
    world.until(lambda: (world.row("fill").get("step") or 0) > 20, "it trains")
    with load(port, rate=30.0) as clients:
        world.until(lambda: len(clients.requests) > 20, "it answers")
        found = _compared(world, clients, _offender(name, code))
    print(name, found)
    assert not clients.failed
    assert said in f"{world.told(name)}{world.row(name)['reason']}", world.told(name)
    if not all(one.fine for one in found.values()) and max(others, _others_cores(world)) > QUIET_CORES:
        pytest.skip(f"others use {others:.1f} cores of this machine, so that a tenth cannot be told: {found}")
    assert all(one.fine for one in found.values()), found


def _others_cores(world: World | None = None) -> float:
    """Cores that are in use while the pool has nothing to do."""
    if world is not None:
        for row in world.client.jobs(state="live"):
            world.client.cancel(row["name"])
        world.until(lambda: not world.client.jobs(state="live"), "all is cancelled")
    before = _busy_s()
    time.sleep(1.0)
    return _busy_s() - before


def _busy_s() -> float:
    """Seconds that all cores together have worked since the machine began."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().split("\n")[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK")


def _compared(world: World, clients: Clients, offender: Job) -> dict[str, Slower]:
    """Windows without and with the offender in turns, until it is clear that it harms nobody, or there are many."""
    calm, beside = [_look(world, clients)], []
    while True:
        world.submit(offender)
        world.until(lambda: world.row(offender.name)["started_s"] is not None, "it runs")
        beside.append(_look(world, clients))
        world.client.cancel(offender.name)
        world.until(lambda: not world.row(offender.name)["planned"], "it has ended")
        calm.append(_look(world, clients))
        found = {
            "latency": slower([one[0] for one in calm], [one[0] for one in beside]),
            "step": slower([one[1] for one in calm], [one[1] for one in beside]),
        }
        if len(beside) >= MOST_PAIRS or (len(beside) >= PAIRS and all(one.fine for one in found.values())):
            return found


def _look(world: World, clients: Clients) -> tuple[float, float]:
    """Median seconds of a request, and seconds of a step, in one window."""
    since_s, step = time.time(), world.row("fill")["step"]
    time.sleep(WINDOW_S)
    return clients.latency_s(since_s), (time.time() - since_s) / (world.row("fill")["step"] - step)


def _offender(name: str, code: str) -> Job:
    """It is started again and again."""
    return batch(
        name, code, team="lab", priority=Priority.STANDARD, resources=Resources(cpu=0.5, memory=64 * 2**20),
        scratch=16 * 2**20, restart=Restart(policy="always"),
    )  # fmt: skip
