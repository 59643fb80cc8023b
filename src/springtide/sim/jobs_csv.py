"""The product's own table of jobs: one a line, with columns that say what they are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from springtide.core import resources
from springtide.core.snapshot import KIND_NAMES
from springtide.sim import pool, tables
from springtide.sim.formats import Options
from springtide.sim.philly import equal_teams
from springtide.sim.trace import Task, Trace
from springtide.sim.world import Steady
from springtide.spec import amounts
from springtide.spec.job import Priority
from springtide.spec.quantities import nearest

NEEDED = ("submit", "work")
KNOWN = (
    "name", "kind", "team", "priority", "submit", "work", "replicas", "cpu", "memory", "gpu", "disk", "network",
    "deadline", "bid_core", "bid_gpu", "trial",
)  # fmt: skip
_READERS = {
    "cpu": amounts.cores, "memory": amounts.memory, "gpu": amounts.gpus, "disk": amounts.rate, "network": amounts.rate,
}  # fmt: skip
_DEFAULT_NODES = "8x8gpu"


def read(paths: Sequence[Path], options: Options) -> Trace:
    """`submit` [s] and `work` [s of one replica alone] are needed; the rest has the defaults of a job file."""
    teams: dict[str, int] = {}
    tasks = [
        _task(row, number, teams, options)
        for number, row in enumerate(row for path in paths for row in tables.rows(path, NEEDED, KNOWN))
    ]
    return Trace(
        name=paths[0].name.split(".")[0],
        nodes=pool.nodes(options.nodes or _DEFAULT_NODES),
        teams=equal_teams(list(teams)),
        tasks=sorted(tasks, key=lambda task: task.submit_s),
        world=Steady(options.restart_s or 0.0),
    )


def _task(row: tables.Row, number: int, teams: dict[str, int], options: Options) -> Task:
    where = f"{row.path}:{row.line}"
    span = amounts.replicas(row.get("replicas", "1"), f"{where}: replicas")
    request = resources.vector(
        **{kind: reader(row[kind], f"{where}: {kind}") for kind, reader in _READERS.items() if row.get(kind)}
    )
    if not request.any():
        request = resources.vector(gpu=1.0)
    return Task(
        name=row.get("name") or f"job-{number}",
        submit_s=row.number("submit") / options.load,
        work_s=row.number("work"),
        request=request,
        kind=KIND_NAMES.index(_word(row, "kind", "training", KIND_NAMES)),
        priority=int(Priority[_word(row, "priority", "experiment", [str(one) for one in Priority]).upper()]),
        minimum=span.minimum, maximum=span.maximum, asked=span.maximum,
        team=teams.setdefault(row.get("team") or "default", len(teams)),
        deadline_s=row.number("deadline", float("inf")),
        bid_core=row.number("bid_core", 0.0), bid_gpu=row.number("bid_gpu", 0.0),
        trial=row.get("trial") in ("1", "true", "yes"),
        place=where,
    )  # fmt: skip


def _word(row: tables.Row, column: str, otherwise: str, known: Sequence[str]) -> str:
    word = row.get(column, otherwise)
    if word not in known:
        raise row.wrong(column, f'"{word}" is none of {", ".join(known)}{nearest(word, known)}')
    return word
