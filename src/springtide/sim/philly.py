"""Microsoft's Philly (Jeon et al., ATC'19): jobs of fixed numbers of GPUs in 15 virtual clusters, over four months."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from springtide.core import resources
from springtide.core.resources import FloatArray
from springtide.core.snapshot import Teams
from springtide.sim import pool, tables
from springtide.sim.formats import Options
from springtide.sim.trace import Task, Trace
from springtide.sim.world import Steady

COLUMNS = ("timestamp", "duration", "num_gpus", "gpu_time", "cluster")
NODES = "321x2gpu+231x8gpu"  # 552 machines of 2 and 8 GPUs, 2,490 GPUs together, as the paper describes them
TRIAL_S = 600.0  # a job of one GPU that is over by then is a trial, for which somebody waits
ONE_GPU = resources.vector(gpu=1.0)


def read(paths: Sequence[Path], options: Options) -> Trace:
    """A job of n GPUs is n replicas of one GPU that run together or not at all; each virtual cluster is a team."""
    found = [row for path in paths for row in tables.rows(path, COLUMNS[:3])]
    moments = np.array([row.moment("timestamp") for row in found])
    order = np.argsort(moments, kind="stable")
    start_s = float(moments[order[0]])
    teams: dict[str, int] = {}
    tasks = []
    for number, at in enumerate(order.tolist()):
        row = found[at]
        submit_s = (float(moments[at]) - start_s) / options.load
        tasks.append(task(row, number, submit_s, teams.setdefault(row.get("cluster", "default"), len(teams))))
    return Trace(
        name=paths[0].name.split(".")[0],
        nodes=pool.nodes(options.nodes or NODES),
        teams=equal_teams(list(teams)),
        tasks=tasks,
        world=Steady(options.restart_s or 0.0),
    )


def task(row: tables.Row, number: int, submit_s: float, team: int) -> Task:
    """One line of the file as a task."""
    gpus, duration_s = row.number("num_gpus"), row.number("duration")
    if gpus != int(gpus) or gpus < 1:
        raise row.wrong("num_gpus", f"{row['num_gpus']} is no number of GPUs; write 1, 2, ...")
    count = int(gpus)
    return Task(
        name=f"job-{number}", submit_s=submit_s, request=ONE_GPU, work_s=max(duration_s, 1e-3) * count,
        minimum=count, maximum=count, asked=count, team=team, trial=count == 1 and duration_s <= TRIAL_S,
        place=f"{row.path}:{row.line}",
    )  # fmt: skip


def equal_teams(names: Sequence[str], guarantee: FloatArray | None = None) -> Teams:
    """Teams of equal weight under nobody, guaranteed nothing or (T, 5) `guarantee`; they may borrow everything."""
    count = len(names)
    none = np.zeros((count, resources.COUNT))
    return Teams(
        list(names), np.full(count, -1), none if guarantee is None else guarantee, none + np.inf, np.ones(count),
        np.full(count, np.inf), np.zeros(count),
    )  # fmt: skip
