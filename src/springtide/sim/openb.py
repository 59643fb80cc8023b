"""Alibaba's openb pods (cluster-trace-gpu-v2023) by the protocol of FGD (Weng et al., ATC'23).

The pods arrive in random order, then drawn again and again until `arrive` times the GPUs were asked for. Nothing
departs and nothing moves, so what does not fit when it arrives never will, and is turned away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from springtide.core import Cluster, resources
from springtide.core.cluster import make_nodes
from springtide.core.resources import GPU, FloatArray
from springtide.core.snapshot import BATCH, Nodes
from springtide.sim import tables
from springtide.sim.engine import Policy
from springtide.sim.formats import Options
from springtide.sim.trace import Progress, Task, Trace
from springtide.spec.errors import UserError

NODES = ("sn", "cpu_milli", "memory_mib", "gpu", "model")
PODS = ("name", "cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
MODEL = "gpu-model"  # the label that a pod's `gpu_spec` wishes for
ARRIVE = 1.3
POLICIES = {"Random": "random", "BestFit": "best-fit", "FGD": "fgd"}  # as published -> here


def read(paths: Sequence[Path], options: Options) -> Trace:
    """A file of nodes and a file of pods, in this order."""
    if len(paths) != 2:
        raise UserError("--format openb: two files are needed: NODES.csv PODS.csv")
    nodes, pods = _nodes(paths[0]), [_pod(row) for row in tables.rows(paths[1], PODS)]
    arrive = ARRIVE if options.arrive is None else options.arrive
    total = float(nodes.capacity[:, GPU].sum())
    if not any(pod.request[GPU] > 0 for pod in pods):
        raise UserError(f"{paths[1]}: no pod asks for a GPU; at least one line with num_gpu above 0 is needed")
    name = paths[1].stem.removeprefix("openb_pod_list_")
    return Trace(
        name=f"openb {name}",
        nodes=nodes,
        tasks=arrivals(pods, arrive * total, options.seed),
        seeded=True,
        play=partial(play, arrive=arrive),
        note="nothing departs, nothing moves",
        published=_published(paths[1].parent, name),
    )


def arrivals(pods: Sequence[Task], demand: float, seed: int) -> list[Task]:
    """All pods in random order, cut or drawn again until `demand` GPUs were asked for."""
    random = np.random.default_rng(seed)
    asked = np.array([pod.request[GPU] for pod in pods])
    order = random.permutation(len(pods))
    total = float(asked.sum())
    while total > demand:
        gone = int(random.integers(len(order)))
        total -= asked[order[gone]]
        order = np.delete(order, gone)
    more = random.integers(len(pods), size=int(2 * demand / asked.mean()) + 64) if total < demand else order[:0]
    ends = total + np.cumsum(asked[more])
    chosen = [*order.tolist(), *more[ends <= demand].tolist()]
    return [pods[at] for at in chosen]


def play(trace: Trace, policy: Policy, progress: Progress, arrive: float) -> Mapping[str, float]:
    """One pass of the policy per arrival. Percent of all GPUs that are held when so much of them was asked for."""
    cluster = Cluster(trace.nodes)
    total = float(trace.total()[GPU])
    marks = {f"gpu_allocated_at_{round(100 * share)}": share for share in {min(1.0, arrive), arrive}}
    found: dict[str, float] = {}
    asked = held = 0.0
    for number, task in enumerate(trace.tasks):
        row = cluster.add(f"{number}", kind=BATCH, request=task.request, wishes=task.wishes, submitted_s=float(number))
        cluster.apply(policy.plan(cluster.snapshot(float(number))), float(number))
        asked += float(task.request[GPU])
        if cluster.held[row]:
            held += float(task.request[GPU])
            cluster.set(row, unsaved_s=1e9)  # nothing moves: whoever runs would lose everything
        else:
            cluster.remove(row)
        for metric, share in marks.items():
            if metric not in found and asked >= share * total:
                found[metric] = 100.0 * held / total
        if number % 64 == 0:
            progress(number / len(trace.tasks))
    return {metric: found.get(metric, 100.0 * held / total) for metric in marks}


def _nodes(path: Path) -> Nodes:
    names, capacity, labels = [], [], []
    for row in tables.rows(path, NODES):
        names.append(row["sn"])
        capacity.append(_vector(row, row.number("gpu")))
        labels.append({MODEL: row["model"]})
    amounts: FloatArray = np.array(capacity)
    amounts[:, [resources.DISK, resources.NETWORK]] = np.inf
    return make_nodes(amounts, names, labels)


def _pod(row: tables.Row) -> Task:
    count, milli = row.number("num_gpu"), row.number("gpu_milli")
    if count != int(count) or milli > 1000 or (count > 1 and milli != 1000) or (count == 1 and milli == 0):
        raise row.wrong("gpu_milli", f"{count:g} GPUs of {milli:g} thousandths; write one share, or whole GPUs of 1000")
    models = tuple(sorted(filter(None, row.get("gpu_spec").split("|"))))
    return Task(
        name=row["name"], submit_s=0.0, request=_vector(row, count * milli / 1000.0), kind=BATCH,
        wishes={MODEL: models} if models and count else {}, place=f"{row.path}:{row.line}",
    )  # fmt: skip


def _vector(row: tables.Row, gpu: float) -> FloatArray:
    return resources.vector(cpu=row.number("cpu_milli") / 1000.0, memory=row.number("memory_mib") * 2.0**20, gpu=gpu)


def _published(folder: Path, name: str) -> dict[tuple[str, str], float]:
    """The artifact's own table, where it lies beside the pods."""
    found = {}
    for path in (folder.parent / "fgd/published_gpu_allocation.csv", folder / "published_gpu_allocation.csv"):
        for row in tables.rows(path, ("pod_list", "policy")) if path.exists() else ():
            if row["pod_list"] == name and row["policy"] in POLICIES:
                for at in ("100", "130"):
                    metric = f"gpu_allocated_at_{at}"
                    found[POLICIES[row["policy"]], metric] = row.number(f"gpu_allocated_pct_at_{at}")
    return found
