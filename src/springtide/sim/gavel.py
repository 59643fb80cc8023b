"""Gavel (Narayanan et al., OSDI'20): speeds measured on three kinds of GPUs, alone and in pairs, and jobs drawn."""

from __future__ import annotations

import ast
import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from springtide.core import resources
from springtide.core.cluster import make_nodes
from springtide.core.resources import GPU
from springtide.core.snapshot import Slot
from springtide.sim import packing
from springtide.sim.formats import Options
from springtide.sim.philly import ONE_GPU
from springtide.sim.trace import Task, Trace
from springtide.spec.errors import UserError

KINDS = ("v100", "p100", "k80")
NODES_OF_KIND, GPUS_A_NODE = 9, 4  # 36 GPUs of each kind
JOBS = 300
AN_HOUR = 6.0  # jobs that arrive, at load 1
SCALES, SCALE_SHARE = (1, 2, 4, 8), (0.70, 0.10, 0.15, 0.05)

Speeds = dict[tuple[str, int], tuple[float, ...]]  # (model, scale) -> one for each of KINDS


@dataclass(frozen=True, slots=True)
class Measured:
    """What is in the table, of all that run on every kind."""

    speeds: Speeds
    pairs: Sequence[packing.Pairs]  # per kind


class Throughputs:
    """A job runs as fast as its slowest replica's GPU lets it; a V100 alone is 1."""

    def __init__(self, measured: Measured, kind_of: Sequence[int], restart: float) -> None:
        self.measured = measured
        self._kind_of = kind_of
        self._restart_s = restart

    def rate(self, task: Task, slots: Sequence[Slot], beside: Sequence[Task]) -> float:
        """Work done per second; beside one other it is as measured, beside more by all its pairs, at least a turn."""
        kinds = {self._kind_of[slot.node] for slot in slots}
        return len(slots) * min(self._speed(task, kind, beside) for kind in kinds)

    def _speed(self, task: Task, kind: int, beside: Sequence[Task]) -> float:
        model = (task.model, task.maximum)
        pairs = self.measured.pairs[kind]
        kept = math.prod(packing.beside(pairs, model, (other.model, other.maximum)) for other in beside)
        return self.measured.speeds[model][kind] * max(kept, 1 / (1 + len(beside)))

    def restart_s(self, task: Task, before: Sequence[Slot], after: Sequence[Slot]) -> float:
        """A change costs the same everywhere."""
        return self._restart_s if before else 0.0


def read(paths: Sequence[Path], options: Options) -> Trace:
    """Jobs drawn with the seed: durations 10 to the x minutes, x in 1.5..3 for four fifths of them, else in 3..4."""
    measured = _measured(paths[0])
    speeds = measured.speeds
    rng = np.random.default_rng(options.seed)
    models = sorted({model for model, _ in speeds})
    moment_s, tasks = 0.0, []
    for number in range(JOBS):
        moment_s += float(rng.exponential(3600.0 / (AN_HOUR * options.load)))
        scale = int(rng.choice(SCALES, p=SCALE_SHARE))
        having = [model for model in models if (model, scale) in speeds]
        exponent = rng.uniform(1.5, 3.0) if rng.random() < 0.8 else rng.uniform(3.0, 4.0)
        model = str(rng.choice(having))
        tasks.append(
            Task(
                name=f"job-{number}",
                submit_s=moment_s,
                request=ONE_GPU,
                work_s=60.0 * 10.0**exponent * scale,
                minimum=scale,
                maximum=scale,
                asked=scale,
                model=model,
                place=str(paths[0]),
            )
        )
    count = NODES_OF_KIND * len(KINDS)
    capacity = np.full((count, resources.COUNT), np.inf)
    capacity[:, GPU] = GPUS_A_NODE
    kind_of = [node // NODES_OF_KIND for node in range(count)]
    return Trace(
        name="gavel", nodes=make_nodes(capacity, labels=[{"gpu_model": KINDS[kind]} for kind in kind_of]), tasks=tasks,
        world=Throughputs(measured, kind_of, options.restart_s or 0.0), seeded=True,
    )  # fmt: skip


def packed(trace: Trace) -> Trace:
    """The same jobs, of which the planner knows such stages as their pairs were measured to have."""
    if not isinstance(trace.world, Throughputs):
        return trace
    stages = packing.stages(trace.world.measured.pairs[0])
    tasks = [replace(task, stages=stages[task.model, task.maximum]) for task in trace.tasks]
    return replace(trace, tasks=tasks)


def _measured(path: Path) -> Measured:
    """Speeds on each kind against a V100, and of pairs against each alone."""
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        table: dict[str, dict[str, Any]] = json.loads(text)
        steps = {kind: {ast.literal_eval(key): float(of["null"]) for key, of in table[kind].items()} for kind in KINDS}
        pairs = [{ast.literal_eval(key): _pairs(of) for key, of in table[kind].items()} for kind in KINDS]
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}: the gzip file is cut off; copy it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise UserError(
            f"{path}: this is no table of throughputs by GPU, (model, scale) and neighbour: {error}"
        ) from None
    speeds = {
        key: tuple(steps[kind][key] / alone for kind in KINDS)
        for key, alone in steps[KINDS[0]].items()
        if alone > 0 and all(steps[kind].get(key, 0.0) > 0 for kind in KINDS)
    }
    return Measured(speeds, pairs)


def _pairs(of: Mapping[str, Any]) -> dict[packing.Model, float]:
    """The neighbour -> the share of its speed that a model keeps beside it; 0: they did not fit together."""
    alone = max(float(of["null"]), 1e-12)
    return {ast.literal_eval(other): float(both[0]) / alone for other, both in of.items() if other != "null"}
