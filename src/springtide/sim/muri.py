"""Muri's traces (Zhao et al., SIGCOMM'22): Philly's jobs with the stage times of an iteration, on 8 nodes of 8 V100."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from springtide.core import resources
from springtide.core.complements import MOST, STRETCH, iteration_s, stages_of
from springtide.core.resources import GPU
from springtide.core.snapshot import Slot
from springtide.sim import pool, tables
from springtide.sim.formats import Options
from springtide.sim.trace import Task, Trace

COLUMNS = (
    "num_gpu", "submit_time", "iterations", "iteration_time", "resource_time_0", "resource_time_1", "resource_time_2",
)  # fmt: skip
NODES = "8x8gpu"
WIDEST = 8  # GPUs of a replica: larger jobs take whole nodes

# Seconds in which a job starts or moves, on 1, 2, 4, 8, 16 and 32 GPUs, as the artifact has measured them.
START_S: Mapping[str, tuple[float, ...]] = {
    "vgg16": (7, 7, 8, 9, 9, 9),
    "vgg19": (7, 7, 8, 9, 10, 10),
    "resnet18": (4, 5, 5, 7, 7, 7),
    "shufflenet_v2_x1_0": (4, 4, 5, 5, 7, 8),
    "a2c": (38, 39, 39, 46, 46, 46),
    "dqn": (5, 5, 6, 6, 8, 8),
}
OTHER_START_S = 10.0

# Average completion as the paper's artifact reports it, by the name of the file.
PUBLISHED: Mapping[str, Mapping[str, float]] = {
    "trace1": {"srtf": 1_370_603, "srsf": 980_141, "tiresias": 3_330_371, "muri-s": 867_706},
    "trace3": {"srtf": 193_082, "srsf": 185_022, "tiresias": 347_213, "muri-s": 85_503},
}


class InTurns:
    """Jobs that share devices have one common iteration; every job alone has the iteration that was measured."""

    def __init__(self, alone_s: Mapping[str, float], restart_s: float | None) -> None:
        self._alone_s = alone_s  # task -> seconds of an iteration
        self._restart_s = restart_s

    def rate(self, task: Task, slots: Sequence[Slot], beside: Sequence[Task]) -> float:
        """Replica-seconds of work per second: those of the job alone, over the common iteration."""
        count = float(len(slots))
        known = [other.stages for other in (task, *beside) if other.stages is not None]
        if len(known) <= 1:
            return count
        if len(known) > MOST:
            return 0.0  # while some are on their way to other devices
        together = iteration_s(tuple(sorted(stages_of(stages) for stages in known)))
        return count * self._alone_s[task.name] * STRETCH[1] / together

    def restart_s(self, task: Task, before: Sequence[Slot], after: Sequence[Slot]) -> float:
        """As measured for the model and its GPUs, unless the options say otherwise."""
        if self._restart_s is not None:
            return self._restart_s
        gpus = max(1.0, float(task.request[GPU]) * len(after))
        size = min(5, int(np.log2(gpus)))
        return START_S[task.model][size] if task.model in START_S else OTHER_START_S


def read(paths: Sequence[Path], options: Options) -> Trace:
    """A job of up to eight GPUs is one replica; a larger one has a replica of eight on each of its nodes."""
    tasks: list[Task] = []
    alone_s: dict[str, float] = {}
    for path in paths:
        for row in tables.rows(path, COLUMNS):
            each = task(row, len(tasks), options.load)
            tasks.append(each)
            alone_s[each.name] = row.number("iteration_time") / 1e3
    name = paths[0].name.split(".")[0]
    figures = {(policy, "average_completion"): value for policy, value in PUBLISHED.get(name, {}).items()}
    return Trace(
        name=name,
        nodes=pool.nodes(options.nodes or NODES),
        tasks=sorted(tasks, key=lambda each: each.submit_s),
        world=InTurns(alone_s, options.restart_s),
        round_s=options.round_s or 0.0,
        published=figures,
    )


def task(row: tables.Row, number: int, load: float) -> Task:
    """One line of the file as a task; its times are milliseconds."""
    gpus = row.number("num_gpu", least=1.0)
    count = max(1, int(gpus) // WIDEST)
    if gpus != int(gpus) or (gpus > WIDEST and gpus % WIDEST):
        raise row.wrong("num_gpu", f"{row['num_gpu']} is no number of GPUs; write 1 to 8, or whole nodes of 8")
    loading, computing, network = (row.number(f"resource_time_{kind}") / 1e3 for kind in range(3))
    work_s = row.number("iterations") * row.number("iteration_time") / 1e3 * STRETCH[1]
    return Task(
        name=f"job-{number}", submit_s=row.number("submit_time") / 1e3 / load, model=row.get("model_name"),
        request=resources.vector(gpu=gpus / count), work_s=max(work_s, 1e-3) * count, minimum=count, maximum=count,
        speeds=np.arange(count + 1, dtype=np.float64), asked=count,
        stages=np.array([0.0, loading, computing, network]), place=f"{row.path}:{row.line}",
    )  # fmt: skip
