"""Alibaba's disaggregated recommendation models (2025): instances on CPU and GPU nodes, with shares of a NIC."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from springtide.core import resources
from springtide.core.snapshot import STREAM
from springtide.sim import pool, tables
from springtide.sim.formats import Options
from springtide.sim.philly import equal_teams
from springtide.sim.trace import Task, Trace
from springtide.sim.world import Steady

COLUMNS = (
    "instance_sn", "role", "app_name", "cpu_request", "gpu_request", "rdma_request", "memory_request",
    "creation_time", "deletion_time",
)  # fmt: skip
NIC = 25e9  # bytes/s that 100 % of a node's RDMA stand for (2 x 100 Gbit/s)
NODES = "9000x128cpu,768Gi,network:25GB/s+1900x128cpu,1024Gi,4gpu,network:25GB/s"


def read(paths: Sequence[Path], options: Options) -> Trace:
    """Each instance runs from its creation (the start, where it is empty) until its deletion; each app is a team."""
    teams: dict[str, int] = {}
    tasks = []
    for path in paths:
        for row in tables.rows(path, COLUMNS):
            begin_s = row.number("creation_time", 0.0)
            end_s = row.number("deletion_time", float("inf"))
            if end_s < begin_s:
                raise row.wrong("deletion_time", f"{row['deletion_time']} is before its creation at {begin_s:g}")
            request = resources.vector(
                cpu=row.number("cpu_request"),
                gpu=row.number("gpu_request"),
                memory=row.number("memory_request") * 2**30,
                network=row.number("rdma_request") / 100.0 * NIC,
            )
            team = teams.setdefault(row["app_name"], len(teams))
            tasks.append(
                Task(
                    name=row["instance_sn"],
                    submit_s=begin_s / options.load,
                    leave_s=end_s / options.load,
                    kind=STREAM,
                    request=request,
                    priority=2,
                    team=team,
                    place=f"{row.path}:{row.line}",
                )
            )
    return Trace(
        name="dlrm", nodes=pool.nodes(options.nodes or NODES), teams=equal_teams(list(teams)),
        tasks=sorted(tasks, key=lambda task: task.submit_s), world=Steady(options.restart_s or 0.0),
    )  # fmt: skip
