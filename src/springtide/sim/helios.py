"""Helios' Earth (Hu et al., SC'21), derived: what 16 virtual clusters had, ran and queued, each ten minutes.

No jobs are in it, so nothing is played: the table says what separate clusters left idle, and that bounds one pool.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from springtide.core.cluster import make_nodes
from springtide.sim import tables
from springtide.sim.engine import Policy
from springtide.sim.formats import Options
from springtide.sim.philly import ONE_GPU
from springtide.sim.policies import OURS
from springtide.sim.trace import Progress, Task, Trace

COLUMNS = ("time", "vc", "total_gpu_num", "running_gpu_num", "pending_gpu_num")


def read(paths: Sequence[Path], options: Options) -> Trace:
    """The table as a trace whose figures are bounds: `queued_while_idle`, GPUs, mean over the time."""
    total: dict[str, float] = {}
    idle: dict[str, float] = {}
    pending: dict[str, float] = {}
    for path in paths:
        for row in tables.rows(path, COLUMNS):
            moment, has = row["time"], row.number("total_gpu_num")
            total[moment] = total.get(moment, 0.0) + has
            idle[moment] = idle.get(moment, 0.0) + max(0.0, has - row.number("running_gpu_num"))
            pending[moment] = pending.get(moment, 0.0) + row.number("pending_gpu_num")
    waiting, spare = (np.array(list(each.values())) for each in (pending, idle))

    def play(trace: Trace, policy: Policy, progress: Progress) -> Mapping[str, float]:
        apart = policy.name != OURS  # virtual clusters as they were; one pool starts whatever fits
        whole = sum(total.values()) / 100.0
        queued = waiting if apart else np.maximum(0.0, waiting - spare)
        left = spare if apart else np.maximum(0.0, spare - waiting)
        return {
            "queued_while_idle": float(np.where(left > 0, queued, 0.0).mean()),
            "idle": float(left.mean()),
            "gpu_allocated": 100.0 - float(left.sum()) / whole,
        }

    most = int(max(total.values()))
    return Trace(
        name="helios-earth", nodes=make_nodes(np.array([[0.0, 0.0, float(most), 0.0, 0.0]])), play=play,
        tasks=[Task(name=moment, submit_s=0.0, request=ONE_GPU) for moment in total],
        published={("static", "queued_while_idle"): 63.6, ("static", "idle"): 264.0},
        note="bound, not simulated: the table has no jobs",
    )  # fmt: skip
