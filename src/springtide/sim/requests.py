"""Requests that services were sent: arrivals one by one (Azure), or rates sampled per container (Alibaba GenAI).

Alone they are the load of a service on an otherwise empty pool. With jobs of Philly beside them they are a day of a
shared pool: the service at its real shape, training queued so that it never runs dry.
"""

from __future__ import annotations

import csv
import io
import math
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from springtide.core.load import BINS, bin_of
from springtide.core.resources import GPU, FloatArray
from springtide.core.snapshot import SERVICE
from springtide.sim import philly, pool, tables
from springtide.sim.formats import Options
from springtide.sim.trace import LoadChange, Task, Trace
from springtide.sim.world import Steady
from springtide.spec.errors import UserError

NODES = "64x8gpu"
EVERY_S = 60.0
PEAK = 0.6  # of the pool's GPUs is what all services need together at their peak
QUEUED = 1.2  # times what the pool could do meanwhile is the work of the training jobs, of each what it can do
START_S = 5.0  # until a replica of a service answers


def read(paths: Sequence[Path], options: Options) -> Trace:
    """Files of requests become services, whose peaks together need `PEAK` times `load` of the pool's GPUs."""
    nodes = pool.nodes(options.nodes or NODES)
    gpus = float(nodes.total()[GPU])
    if not 0 < gpus < math.inf:
        raise UserError("--nodes: services are placed on GPUs here, and these nodes have none; write 64x8gpu")
    jobs = [path for path in paths if _is_philly(path)]
    shapes = [(path, *rates(path)) for path in paths if path not in jobs]
    if not shapes:
        raise UserError(f"{paths[0]}: these are jobs; a file of requests is needed beside them")
    names = ["services", *(["training"] if jobs else [])]
    peak = PEAK * options.load * gpus / len(shapes)
    end_s = max(float(times[-1]) for _, times, _ in shapes)
    tasks, loads = [], []
    for number, (path, times, rate) in enumerate(shapes):
        name = f"service-{number}"
        scaled = rate / rate.max() * peak
        tasks.append(
            Task(
                name=name,
                submit_s=0.0,
                request=philly.ONE_GPU,
                kind=SERVICE,
                priority=3,
                minimum=1,
                maximum=int(gpus),
                pattern=pattern(times, scaled),
                place=f"{path}:1",
            )
        )
        loads += [LoadChange(float(at), name, float(each)) for at, each in zip(times, scaled, strict=True)]
    if jobs:
        tasks += _queue(jobs, gpus * end_s * QUEUED, end_s, options)
    return Trace(
        name="a-day" if jobs else paths[0].name.split(".")[0], nodes=nodes, teams=philly.equal_teams(names),
        tasks=tasks, loads=loads, world=Steady(options.restart_s or 0.0, START_S), tick_s=EVERY_S, end_s=end_s,
        window_s=(EVERY_S, end_s), seeded=bool(jobs),
    )  # fmt: skip


def pattern(times: FloatArray, rate: FloatArray) -> FloatArray:
    """(BINS,) the highest rate in force in each five minutes of the week: what an owner who knows such days states."""
    known: FloatArray = np.zeros(BINS)
    bins = np.array([bin_of(float(at)) % BINS for at in times])
    np.maximum.at(known, bins, rate)
    np.maximum.at(known, bins[1:], rate[:-1])  # the rate before lasts until the one after begins
    return known


def unforeseen(trace: Trace) -> Trace:
    """The same day, of which nobody stated anything."""
    return replace(trace, tasks=[replace(task, pattern=None) for task in trace.tasks])


def _is_philly(path: Path) -> bool:
    return not path.name.endswith(".tar.gz") and "num_gpus" in tables.header(path)


def _queue(paths: Sequence[Path], work_s: float, end_s: float, options: Options) -> list[Task]:
    """Jobs drawn from the file until their work is enough, all there from the start, each able to run on fewer GPUs."""
    found = list(philly.read(paths, options).tasks)
    order = np.random.default_rng(options.seed).permutation(len(found))
    chosen, sum_s = [], 0.0
    for at in order.tolist():
        if sum_s >= work_s:
            break
        sum_s += min(found[at].work_s, found[at].maximum * end_s)
        chosen.append(replace(found[at], submit_s=0.0, minimum=1, team=1))
    return chosen


def rates(path: Path) -> tuple[FloatArray, FloatArray]:
    """(T,) seconds from the file's start, a minute apart, and (T,) requests per second of all containers together."""
    times, values, counted = _sampled(path) if path.name.endswith(".tar.gz") else _arrivals(path)
    minute = ((times - times.min()) // EVERY_S).astype(np.int64)
    sums = np.bincount(minute, values)
    rate = sums / EVERY_S if counted else sums
    if len(rate) < 2 or not rate.max() > 0:
        raise UserError(f"{path}: the requests of at least two minutes are needed")
    return np.arange(len(rate), dtype=np.float64) * EVERY_S, np.asarray(rate, dtype=np.float64)


def _arrivals(path: Path) -> tuple[FloatArray, FloatArray, bool]:
    times = np.array([row.moment("TIMESTAMP") for row in tables.rows(path, ("TIMESTAMP",))])
    return times, np.ones(len(times)), True


def _sampled(path: Path) -> tuple[FloatArray, FloatArray, bool]:
    """Rates by container and minute: the mean within a minute, summed over containers by the caller."""
    cells: dict[tuple[int, str], list[float]] = {}
    line = 1
    try:
        with tarfile.open(path, "r:gz") as packed:
            inside = packed.extractfile(packed.getmembers()[0])
            assert inside is not None
            for row in csv.DictReader(io.TextIOWrapper(inside, "utf-8")):
                line += 1
                if row["request_type"] == "Generative Requests":
                    key = (int(float(row["timestamp_anon"]) // EVERY_S), row["container_ip"])
                    cells.setdefault(key, []).append(max(0.0, float(row["value"])))
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (tarfile.TarError, EOFError, zlib.error, OSError, AssertionError, IndexError):
        raise UserError(f"{path}:{line}: the archive is cut off or is none; copy it again") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path}:{line}: timestamp_anon, value, container_ip and request_type are needed") from None
    if not cells:
        raise UserError(f"{path}: there is no generative request in it")
    times = np.array([minute * EVERY_S for minute, _ in cells])
    return times, np.array([float(np.mean(values)) for values in cells.values()]), False
