"""A day and a night of a made-up company: two services with the sun, training that fills the rest, trials by day."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from springtide.core import resources
from springtide.core.snapshot import BATCH, SERVICE, TRAINING
from springtide.sim import pool
from springtide.sim.formats import Options
from springtide.sim.philly import equal_teams
from springtide.sim.trace import LoadChange, Outage, Task, Trace
from springtide.sim.world import Steady

NODES = "16x8gpu,64cpu,512Gi"
HOURS = 24
EVERY_S = 60.0
GIB = 1024.0**3
GPU_REPLICA = resources.vector(gpu=1.0, cpu=4.0, memory=32 * GIB)
TEAMS = ("shop", "speech", "vision", "research")


def day_and_night(options: Options) -> Trace:
    """Two services whose load follows the hour with noise, elastic training, short trials, batches, two lost nodes."""
    rng = np.random.default_rng(options.seed)
    nodes = pool.nodes(options.nodes or NODES)
    end_s = HOURS * 3600.0
    loads = [
        change
        for name, peak, hour in (("web", 40.0, 15.0), ("voice", 24.0, 20.0))
        for change in _load(name, peak * options.load, hour, rng)
    ]
    tasks = [_service("web", 0, 64), _service("voice", 1, 48), *_training(rng), *_trials(rng), *_batches(rng)]
    lost = rng.choice(len(nodes.names), size=min(2, len(nodes.names)), replace=False).tolist()
    outages = [
        Outage(int(node), at_s, at_s + 1800.0) for node, at_s in zip(lost, (9.5 * 3600, 21 * 3600), strict=False)
    ]
    return Trace(
        name="day-and-night", nodes=nodes, teams=equal_teams(TEAMS), tasks=sorted(tasks, key=lambda t: t.submit_s),
        loads=loads, outages=outages, world=Steady(0.5 if options.restart_s is None else options.restart_s, 2.0),
        tick_s=EVERY_S, end_s=end_s, window_s=(EVERY_S, end_s), seeded=True,
    )  # fmt: skip


def _load(name: str, peak: float, hour: float, rng: np.random.Generator) -> list[LoadChange]:
    """Each minute a rate: a fifth of the peak at night, all of it at `hour`, with a twentieth of noise."""
    times = np.arange(0.0, HOURS * 3600.0, EVERY_S)
    sun = 0.5 + 0.5 * np.cos((times / 3600.0 - hour) / 24.0 * 2 * math.pi)
    rate = peak * (0.2 + 0.8 * sun**1.5) * (1 + 0.05 * rng.standard_normal(len(times)))
    return [LoadChange(float(at), name, float(max(one, 0.0))) for at, one in zip(times, rate, strict=True)]


def _service(name: str, team: int, most: int) -> Task:
    return Task(
        name=name, submit_s=0.0, request=GPU_REPLICA, kind=SERVICE, priority=3, minimum=1, maximum=most, team=team
    )


def _training(rng: np.random.Generator) -> list[Task]:
    tasks = []
    for number in range(60):
        most = int(rng.choice([4, 8, 16, 32]))
        hours = float(rng.lognormal(0.6, 0.8))
        at_s = 0.0 if number < 25 else float(rng.uniform(0, 20 * 3600))
        tasks.append(
            Task(
                name=f"training-{number}",
                submit_s=at_s,
                request=GPU_REPLICA,
                kind=TRAINING,
                minimum=1,
                maximum=most,
                asked=most,
                work_s=hours * 3600 * most,
                team=int(rng.integers(1, 4)),
                priority=int(rng.integers(1, 3)),
            )
        )
    return tasks


def _trials(rng: np.random.Generator) -> list[Task]:
    """Somebody tries a model on a sample, and waits for it."""
    times = np.sort(rng.uniform(8 * 3600, 19 * 3600, 150))
    assert all(a <= b for a, b in pairwise(times))
    return [
        Task(
            name=f"trial-{number}",
            submit_s=float(at),
            request=GPU_REPLICA,
            work_s=float(rng.uniform(60, 600)),
            team=int(rng.integers(1, 4)),
            priority=2,
            trial=True,
        )
        for number, at in enumerate(times)
    ]


def _batches(rng: np.random.Generator) -> list[Task]:
    request = resources.vector(cpu=8.0, memory=16 * GIB)
    return [
        Task(
            name=f"batch-{number}",
            submit_s=float(rng.uniform(0, 22 * 3600)),
            request=request,
            kind=BATCH,
            work_s=float(rng.uniform(600, 3600)),
            team=3,
            priority=1,
        )
        for number in range(80)
    ]
