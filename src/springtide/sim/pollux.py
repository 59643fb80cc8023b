"""Pollux's workloads (OSDI'21): jobs of six applications whose step times were measured for every placement."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from springtide.core import resources
from springtide.core.resources import GPU, FloatArray
from springtide.sim import pool, tables
from springtide.sim.formats import Options
from springtide.sim.scaling import Application, Measured, application, packed
from springtide.sim.trace import Task, Trace
from springtide.spec.errors import UserError
from springtide.spec.quantities import nearest

COLUMNS = ("name", "time", "application", "num_replicas", "batch_size")
NODES = "16x4gpu"
ROUND_S = 60.0
RESTART_S = 30.0
OWN_RESTART_S = 0.3  # of a resize in this product; benchmarks.elastic measures it
# Constants of the artifact's simulator.
EPOCHS = {"bert": 2, "cifar10": 100, "ncf": 10, "imagenet": 90, "deepspeech2": 80, "yolov3": 50}
LARGEST_LOCAL = {"yolov3": 8}
ONE_GPU_ONLY = ("ncf",)
PUBLISHED = "published_avg_jct_s.json"  # beside the folder of scaling: policy-load -> workload -> seconds


def read(paths: Sequence[Path], options: Options) -> Trace:
    """A job asks for replicas of one GPU and keeps its batch size; its work and its speeds are known."""
    if options.scaling is None:
        raise UserError("--format pollux: measured step times are needed; say where they are: --scaling DIR")
    nodes = pool.nodes(options.nodes or NODES)
    found = [row for path in paths for row in tables.rows(path, COLUMNS)]
    applications = {name: _application(options.scaling, row) for name, row in _first_rows(found).items()}
    world = Measured(applications, RESTART_S if options.restart_s is None else options.restart_s)
    most = int(nodes.capacity[:, GPU].sum())
    per_node = int(nodes.capacity[:, GPU].max())
    models = _Models(world, most, per_node)
    tasks = [_task(row, models, options.load) for row in found]
    return Trace(
        name=f"pollux {_title(paths[0])}",
        nodes=nodes,
        tasks=sorted(tasks, key=lambda task: task.submit_s),
        world=world,
        round_s=ROUND_S,
        published=_published(options.scaling.parent / PUBLISHED, paths[0]),
    )


def own_costs(trace: Trace) -> Trace:
    """The same work where a resize costs what it costs in this product, and nobody waits for a round."""
    assert isinstance(trace.world, Measured)
    return replace(trace, world=Measured(trace.world.applications, OWN_RESTART_S), round_s=0.0)


class _Models:
    """What the planner is told of each application and batch size, worked out once."""

    def __init__(self, world: Measured, most: int, per_node: int) -> None:
        self._world = world
        self._most = most
        self._per_node = per_node
        self._known: dict[str, tuple[float, FloatArray, float]] = {}

    def of(self, model: str) -> tuple[float, FloatArray, float]:
        """(seconds of work for one replica, speeds by size, share of speed that is kept when spread out)."""
        if model not in self._known:
            subject, batch = self._world.batch(model)
            most = 1 if subject.name in ONE_GPU_ONLY else max(1, min(self._most, batch // subject.smallest))
            alone = subject.speed(batch, (1,))
            speeds = [subject.speed(batch, packed(count, self._per_node)) / alone for count in range(1, most + 1)]
            work_s = float(subject.samples(batch)[-1]) / alone
            self._known[model] = work_s, np.array([0.0, *speeds]), self._apart(subject, batch, most)
        return self._known[model]

    def _apart(self, subject: Application, batch: int, most: int) -> float:
        """Measured where it matters most: on several nodes what one node could hold."""
        kept = []
        for placement in subject.placed:
            replicas = sum(placement)
            if replicas <= min(most, self._per_node) and len(placement) > 1:
                together = subject.speed(batch, packed(replicas, self._per_node))
                kept.append(subject.speed(batch, placement) / together)
        return min(1.0, float(np.median(kept))) if kept else 1.0


def _task(row: tables.Row, models: _Models, load: float) -> Task:
    batch, asked = row.number("batch_size", least=1), row.number("num_replicas", least=1)
    for column, value in (("batch_size", batch), ("num_replicas", asked)):
        if value != int(value):
            raise row.wrong(column, f"{row[column]} is no whole number")
    model = f"{row['application']}/{int(batch)}"
    subject = models._world.applications[row["application"]]
    if not min(subject.epochs) <= batch <= max(subject.epochs):
        raise row.wrong(
            "batch_size", f"{batch:g} was not measured; write {min(subject.epochs)} to {max(subject.epochs)}"
        )
    work_s, speeds, apart = models.of(model)
    return Task(
        name=row["name"], submit_s=row.number("time") / load, request=resources.vector(gpu=1.0), work_s=work_s,
        maximum=max(len(speeds) - 1, int(asked)), asked=int(asked), speeds=speeds, apart=apart, model=model,
        place=f"{row.path}:{row.line}",
    )  # fmt: skip


def _first_rows(rows: Sequence[tables.Row]) -> dict[str, tables.Row]:
    first: dict[str, tables.Row] = {}
    for row in rows:
        first.setdefault(row["application"], row)
    return first


def _application(scaling: Path, row: tables.Row) -> Application:
    name = row["application"]
    if name not in EPOCHS:
        hint = nearest(name, EPOCHS) or f"; known are {', '.join(EPOCHS)}"
        raise row.wrong("application", f'there is no application "{name}"{hint}')
    if not (scaling / name).is_dir():
        raise UserError(f"--scaling: {scaling / name}: there is no such folder; the step times of {name} are needed")
    return application(scaling / name, name, EPOCHS[name], LARGEST_LOCAL.get(name))


def _title(path: Path) -> str:
    load = _load(path)
    return path.stem if load == "1.0" else f"{path.stem} at {load}x"


def _load(path: Path) -> str:
    """The artifact keeps workloads of other loads in folders `workloads-LOAD`."""
    _, _, load = path.absolute().parent.name.partition("-")
    return load or "1.0"


def _published(path: Path, workload: Path) -> Mapping[tuple[str, str], float]:
    if not path.exists():
        return {}
    table = json.loads(path.read_text(encoding="utf-8"))
    return {
        (policy, "average_completion"): float(table[f"{policy}-{_load(workload)}"][workload.stem])
        for policy in ("pollux", "optimus", "tiresias")
        if workload.stem in table.get(f"{policy}-{_load(workload)}", {})
    }
