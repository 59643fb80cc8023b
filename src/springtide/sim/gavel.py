"""Gavel (Narayanan et al., OSDI'20): measured speeds on three kinds of GPUs, and jobs drawn as it draws them."""

from __future__ import annotations

import ast
import gzip
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from springtide.core import resources
from springtide.core.cluster import make_nodes
from springtide.core.resources import GPU
from springtide.core.snapshot import Slot
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


class Throughputs:
    """A job runs as fast as its slowest replica's GPU lets it; a V100 alone is 1."""

    def __init__(self, speeds: Speeds, kind_of: Sequence[int], restart: float) -> None:
        self._speeds = speeds
        self._kind_of = kind_of
        self._restart_s = restart

    def rate(self, task: Task, slots: Sequence[Slot], beside: Sequence[Task]) -> float:
        """Work done per second; each further job on the same devices takes an equal part."""
        speeds = self._speeds[task.model, task.maximum]
        slowest = min(speeds[self._kind_of[slot.node]] for slot in slots)
        return slowest * len(slots) / (1 + len(beside))

    def restart_s(self, task: Task, before: Sequence[Slot], after: Sequence[Slot]) -> float:
        """A change costs the same everywhere."""
        return self._restart_s if before else 0.0


def read(paths: Sequence[Path], options: Options) -> Trace:
    """Jobs drawn with the seed: durations 10 to the x minutes, x in 1.5..3 for four fifths of them, else in 3..4."""
    speeds = _speeds(paths[0])
    rng = np.random.default_rng(options.seed)
    models = sorted({model for model, _ in speeds})
    moment_s, tasks = 0.0, []
    for number in range(JOBS):
        moment_s += float(rng.exponential(3600.0 / (AN_HOUR * options.load)))
        scale = int(rng.choice(SCALES, p=SCALE_SHARE))
        having = [model for model in models if (model, scale) in speeds]
        exponent = rng.uniform(1.5, 3.0) if rng.random() < 0.8 else rng.uniform(3.0, 4.0)
        tasks.append(
            Task(
                name=f"job-{number}",
                submit_s=moment_s,
                request=ONE_GPU,
                work_s=60.0 * 10.0**exponent * scale,
                minimum=scale,
                maximum=scale,
                asked=scale,
                model=str(rng.choice(having)),
                place=str(paths[0]),
            )
        )
    count = NODES_OF_KIND * len(KINDS)
    capacity = np.full((count, resources.COUNT), np.inf)
    capacity[:, GPU] = GPUS_A_NODE
    kind_of = [node // NODES_OF_KIND for node in range(count)]
    return Trace(
        name="gavel", nodes=make_nodes(capacity, labels=[{"gpu_model": KINDS[kind]} for kind in kind_of]), tasks=tasks,
        world=Throughputs(speeds, kind_of, options.restart_s or 0.0), seeded=True,
    )  # fmt: skip


def _speeds(path: Path) -> Speeds:
    """(model, scale) -> speed on each kind against a V100, for all that run on every kind."""
    try:
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.suffix == ".gz" else raw
        table: dict[str, dict[str, Any]] = json.loads(text)
        steps = {kind: {ast.literal_eval(key): float(of["null"]) for key, of in table[kind].items()} for kind in KINDS}
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise UserError(f"{path}: the gzip file is cut off; copy it again") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise UserError(
            f"{path}: this is no table of throughputs by GPU, (model, scale) and neighbour: {error}"
        ) from None
    return {
        key: tuple(steps[kind][key] / alone for kind in KINDS)
        for key, alone in steps[KINDS[0]].items()
        if alone > 0 and all(steps[kind].get(key, 0.0) > 0 for kind in KINDS)
    }
