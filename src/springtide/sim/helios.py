"""Helios' Earth (Hu et al., SC'21), derived: what 16 virtual clusters had, ran and queued, each ten minutes.

The table has no jobs. Alone it is a bound: what separate clusters left idle. With jobs of Philly beside it, jobs of
their sizes are drawn so that each virtual cluster runs and queues what the table says, and played in one pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from springtide.core import resources
from springtide.core.cluster import make_nodes
from springtide.core.resources import GPU, FloatArray, IntArray
from springtide.sim import philly, pool, tables
from springtide.sim.engine import Policy
from springtide.sim.formats import Options
from springtide.sim.philly import ONE_GPU
from springtide.sim.policies import OURS
from springtide.sim.redrawn import EVERY_S, Redrawn
from springtide.sim.trace import Progress, Task, Trace
from springtide.sim.world import Steady
from springtide.spec.errors import UserError

COLUMNS = ("time", "vc", "total_gpu_num", "running_gpu_num", "pending_gpu_num")
GPUS_A_NODE = 8
PUBLISHED = {("static", "queued_while_idle"): 63.6, ("static", "idle"): 264.0}


def read(paths: Sequence[Path], options: Options) -> Trace:
    """The table as a bound, or with a file of jobs beside it as a play."""
    jobs = [path for path in paths if set(philly.COLUMNS[:3]) <= set(tables.header(path))]
    moments, names, figures = _table([path for path in paths if path not in jobs])
    if not jobs:
        return _bound(moments, figures)
    sizes = np.array([task.maximum for task in philly.read(jobs, options).tasks])
    return _play(names, figures, sizes, options)


def _table(paths: Sequence[Path]) -> tuple[list[str], list[str], FloatArray]:
    """The moments, the virtual clusters, and (moments, clusters, 3) GPUs there, running and pending."""
    rows = [row for path in paths for row in tables.rows(path, COLUMNS)]
    moments = {moment: at for at, moment in enumerate(sorted({row["time"] for row in rows}))}
    names = {name: at for at, name in enumerate(sorted({row["vc"] for row in rows}))}
    figures: FloatArray = np.zeros((len(moments), len(names), 3))
    for row in rows:
        figures[moments[row["time"]], names[row["vc"]]] = [row.number(column) for column in COLUMNS[2:]]
    return list(moments), list(names), figures


def _bound(moments: Sequence[str], figures: FloatArray) -> Trace:
    """A trace whose figures are bounds: `queued_while_idle`, GPUs, mean over the time."""
    total = figures[:, :, 0].sum(axis=1)
    spare = np.maximum(figures[:, :, 0] - figures[:, :, 1], 0.0).sum(axis=1)
    waiting = figures[:, :, 2].sum(axis=1)

    def play(trace: Trace, policy: Policy, progress: Progress) -> Mapping[str, float]:
        apart = policy.name != OURS  # virtual clusters as they were; one pool starts whatever fits
        queued = waiting if apart else np.maximum(0.0, waiting - spare)
        left = spare if apart else np.maximum(0.0, spare - waiting)
        return {
            "queued_while_idle": float(np.where(left > 0, queued, 0.0).mean()),
            "idle": float(left.mean()),
            "gpu_allocated": 100.0 * (1.0 - float(left.sum()) / float(total.sum())),
        }

    most = int(total.max(initial=0))
    return Trace(
        name="helios-earth", nodes=make_nodes(np.array([[0.0, 0.0, float(most), 0.0, 0.0]])), play=play,
        tasks=[Task(name=moment, submit_s=0.0, request=ONE_GPU) for moment in moments], published=PUBLISHED,
        note="bound, not simulated: the table has no jobs; name a file of Philly's beside it",
    )  # fmt: skip


def _play(names: Sequence[str], figures: FloatArray, sizes: IntArray, options: Options) -> Trace:
    """A virtual cluster is a team that is guaranteed what it had and may borrow the rest."""
    if not len(figures):
        raise UserError("helios: there is no line in the table of virtual clusters")
    rng = np.random.default_rng(options.seed)
    had = figures[:, :, 0].max(axis=0)
    tasks = []
    for team, name in enumerate(names):
        for number, job in enumerate(Redrawn(figures[:, team, 1], figures[:, team, 2], sizes, rng).jobs()):
            tasks.append(
                Task(
                    name=f"{name}-{number}", submit_s=job.submit_s, request=ONE_GPU, work_s=job.lasts_s * job.gpus,
                    minimum=job.gpus, maximum=job.gpus, asked=job.gpus, team=team,
                )
            )  # fmt: skip
    guarantee = np.zeros((len(names), resources.COUNT))
    guarantee[:, GPU] = had
    nodes = int(had.sum()) // GPUS_A_NODE
    return Trace(
        name="helios-earth", nodes=pool.nodes(options.nodes or f"{nodes}x{GPUS_A_NODE}gpu"),
        teams=philly.equal_teams(names, guarantee), tasks=sorted(tasks, key=lambda task: task.submit_s),
        world=Steady(options.restart_s or 0.0), end_s=len(figures) * EVERY_S, window_s=(0.0, len(figures) * EVERY_S),
        seeded=True, published=PUBLISHED, note="jobs drawn from Philly's sizes to match each virtual cluster's totals",
    )  # fmt: skip
