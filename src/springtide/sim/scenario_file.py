"""The product's own files as a trace: a pool file and job files, the same that `tide up` and `tide submit` read.

Labels say when a job comes: `submit: 10m` after the start, and `every: 5m` with `count: 20` for more of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from springtide.core import resources
from springtide.core.cluster import make_nodes
from springtide.core.curves import of_microbatches
from springtide.core.intake import ARRANGEMENTS
from springtide.core.market import Prices
from springtide.core.snapshot import KIND_NAMES, Nodes, Teams
from springtide.sim import pool
from springtide.sim.formats import Options
from springtide.sim.trace import LoadChange, Task, Trace
from springtide.sim.world import Steady
from springtide.spec import files, quantities
from springtide.spec.errors import UserError
from springtide.spec.files import JobFile
from springtide.spec.job import Job, Kind
from springtide.spec.quantities import nearest
from springtide.spec.sharing import DEFAULT_TEAM, Pool, Team

DAY_S = 86400.0


def read(paths: Sequence[Path], options: Options) -> Trace:
    """Files that name nodes are pools, the others jobs. With services or endless jobs a day is played."""
    pools = [path for path in paths if _is_pool(path)]
    shared = files.pool(pools[0]) if pools else Pool()
    if len(pools) > 1:
        raise UserError(f"{pools[1]}: {pools[0]} is the pool already; name one")
    nodes = pool.nodes(options.nodes) if options.nodes else _nodes(shared)
    if not len(nodes.names):
        raise UserError(f"{paths[0]}: there are no nodes; add a pool file or --nodes 4x8gpu")
    teams = _teams(shared)
    tasks: list[Task] = []
    loads: list[LoadChange] = []
    for path in (path for path in paths if path not in pools):
        jobs = files.job_file(path)
        for job in jobs.jobs:
            tasks += _tasks(job, jobs, teams)
            loads += _loads(job, options)
    endless = any(math.isinf(task.work_s) for task in tasks)
    return Trace(
        name=paths[0].stem, nodes=nodes, teams=teams, tasks=sorted(tasks, key=lambda task: task.submit_s), loads=loads,
        prices=Prices(floor_core=shared.floor.per_core_hour, floor_gpu=shared.floor.per_gpu_hour),
        world=Steady(0.5 if options.restart_s is None else options.restart_s), tick_s=60.0 if endless else 0.0,
        end_s=DAY_S if endless else math.inf, window_s=(0.0, DAY_S) if endless else None,
    )  # fmt: skip


def _is_pool(path: Path) -> bool:
    try:
        return any(line.startswith(("nodes:", '"nodes"', "teams:")) for line in path.read_text().splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from None


def _nodes(shared: Pool) -> Nodes:
    capacity = np.array([node.resources.vector() for node in shared.nodes]).reshape(-1, resources.COUNT)
    return make_nodes(capacity, [node.name for node in shared.nodes], [node.all_labels() for node in shared.nodes])


def _teams(shared: Pool) -> Teams:
    named = list(shared.teams)
    if all(team.name != DEFAULT_TEAM for team in named):
        named.append(Team(name=DEFAULT_TEAM))
    names = [team.name for team in named]
    none, all_of_it = np.zeros(resources.COUNT), np.full(resources.COUNT, np.inf)
    return Teams(
        names,
        np.array([names.index(team.parent) if team.parent else -1 for team in named]),
        np.array([team.guarantee.vector() if team.guarantee else none for team in named]),
        np.array([team.borrow.vector() if team.borrow else all_of_it for team in named]),
        np.array([team.weight for team in named]),
        np.array([math.inf if team.budget is None else team.budget for team in named]),
        np.zeros(len(named)),
    )


def _tasks(job: Job, where: JobFile, teams: Teams) -> list[Task]:
    if job.team not in teams.names:
        hint = nearest(job.team, teams.names) or f"; there are {', '.join(teams.names)}"
        raise UserError(f'{where.place(job.name, "team")}: team: there is no team "{job.team}"{hint}')
    submit_s = _label_s(job.labels, "submit", where.place(job.name))
    every_s = _label_s(job.labels, "every", where.place(job.name))
    count = int(job.labels.get("count", "1")) if job.labels.get("count", "1").isdigit() else 1
    first = _task(job, where, teams, submit_s)
    more = (replace(first, name=f"{job.name}-{n}", submit_s=submit_s + n * every_s) for n in range(1, count))
    return [first, *more]


def _task(job: Job, where: JobFile, teams: Teams, submit_s: float) -> Task:
    work_s = job.work.seconds if job.work and job.work.seconds is not None else math.inf
    most = job.replicas.maximum
    return Task(
        name=job.name, submit_s=submit_s, request=np.array(job.resources.vector()), work_s=work_s,
        kind=KIND_NAMES.index(job.kind.value), minimum=job.replicas.minimum, maximum=most, asked=most,
        team=list(teams.names).index(job.team), priority=int(job.priority),
        speeds=of_microbatches(job.microbatches, most) if job.microbatches else None,
        bid_core=job.bid.per_core_hour if job.bid else 0.0, bid_gpu=job.bid.per_gpu_hour if job.bid else 0.0,
        deadline_s=job.deadline.at(submit_s) if job.deadline else math.inf, wishes=job.placement.require,
        prefers=job.placement.prefer, arrange=ARRANGEMENTS[job.placement.arrange],
        per_replica=_carries(job), headroom=job.load.headroom if job.load else None, place=where.place(job.name),
        trial=job.labels.get("trial") == "true",
    )  # fmt: skip


def _carries(job: Job) -> float:
    return (job.load.requests_per_second if job.load else None) or 1.0


def _loads(job: Job, options: Options) -> list[LoadChange]:
    """A service with a pattern is asked for its hours of a day; at the peak for what its most replicas carry."""
    if job.kind is not Kind.SERVICE or job.load is None or not job.load.pattern:
        return []
    peak = job.replicas.maximum * _carries(job) * options.load
    hours = enumerate(job.load.pattern[:24])
    return [LoadChange(hour * 3600.0, job.name, share * peak) for hour, share in hours]


def _label_s(labels: Mapping[str, str], name: str, where: str) -> float:
    text = labels.get(name, "")
    return quantities.duration(text, f"{where}: labels: {name}") if text not in ("", "0", "0s") else 0.0
