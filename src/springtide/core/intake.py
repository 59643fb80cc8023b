"""What users write, as the planner's columns: a pool becomes a cluster, a job a row of it."""

from __future__ import annotations

import math

import numpy as np

from springtide.core import curves, load
from springtide.core.cluster import Cluster, make_nodes
from springtide.core.load import Load
from springtide.core.market import Prices
from springtide.core.resources import CPU, FloatArray
from springtide.core.settings import Settings
from springtide.core.snapshot import ANYHOW, KIND_NAMES, PACK, SPREAD, Teams
from springtide.spec import DEFAULT_TEAM, Job, Kind, Pool, Resources, Team

NONE = Resources()
ARRANGEMENTS = {None: ANYHOW, "spread": SPREAD, "pack": PACK}


def make_cluster(pool: Pool, settings: Settings | None = None) -> Cluster:
    """The pool, empty. It was checked (`spec.check_pool`): names are there once, parents exist, guarantees fit."""
    capacity = np.array([node.resources.vector() for node in pool.nodes]).reshape(-1, len(NONE.vector()))
    nodes = make_nodes(capacity, [node.name for node in pool.nodes], [node.all_labels() for node in pool.nodes])
    prices = Prices(
        pool.floor.per_core_hour, pool.floor.per_gpu_hour, pool.floor.per_core_hour, pool.floor.per_gpu_hour
    )
    return Cluster(nodes, make_teams(pool), prices, settings or _settings(pool))


def _settings(pool: Pool) -> Settings:
    return Settings(headroom=pool.headroom, scale_down_after_s=pool.scale_down_s, price_tick_s=pool.tick_s)


def make_teams(pool: Pool) -> Teams:
    """The pool's teams, and `default` where it names none of that name."""
    teams = list(pool.teams)
    if DEFAULT_TEAM not in (team.name for team in teams):
        teams.insert(0, Team(name=DEFAULT_TEAM))
    row = {team.name: at for at, team in enumerate(teams)}
    without = Resources(cpu=math.inf, memory=math.inf, gpu=math.inf, disk=math.inf, network=math.inf)
    return Teams(
        names=[team.name for team in teams],
        parent=np.array([-1 if team.parent is None else row[team.parent] for team in teams], dtype=np.int64),
        guarantee=np.array([(team.guarantee or NONE).vector() for team in teams], dtype=np.float64),
        borrow=np.array([(team.borrow or without).vector() for team in teams], dtype=np.float64),
        weight=np.array([team.weight for team in teams], dtype=np.float64),
        budget=np.array([math.inf if team.budget is None else team.budget for team in teams], dtype=np.float64),
        history=np.zeros(len(teams)),
        spent=np.zeros(len(teams)),
    )


def add_job(cluster: Cluster, job: Job, now_s: float) -> int:
    """The job's row from `now_s` on (seconds since 1970, as deadlines are). Its team and nodes were checked.

    Steps are work of unknown length until a step was timed.
    """
    request = np.array(job.resources.vector(), dtype=np.float64)
    kind = KIND_NAMES.index(_planned_as(job).value)
    seconds = job.work.seconds if job.work else None
    return cluster.add(
        job.name,
        kind=kind,
        request=request,
        minimum=job.replicas.minimum,
        maximum=job.replicas.maximum,
        wishes=dict(job.placement.require),
        prefers=dict(job.placement.prefer),
        arrange=ARRANGEMENTS[job.placement.arrange],
        speeds=speeds_of(job),
        load=load_of(job, request),
        team=cluster.teams.names.index(job.team),
        priority=int(job.priority),
        submitted_s=now_s,
        remaining_s=math.nan if seconds is None else seconds,
        deadline_s=job.deadline.at(now_s) if job.deadline else math.inf,
        bid_core=job.bid.per_core_hour if job.bid else 0.0,
        bid_gpu=job.bid.per_gpu_hour if job.bid else 0.0,
    )


def speeds_of(job: Job) -> FloatArray | None:
    """(maximum + 1,) of a training job whose microbatches are known; None where the prior holds."""
    if job.kind != Kind.TRAINING or not job.microbatches:
        return None
    return curves.of_microbatches(job.microbatches, job.replicas.maximum)


def _planned_as(job: Job) -> Kind:
    """A stream that follows its lag comes and goes one replica at a time, as a service does."""
    return Kind.SERVICE if job.kind == Kind.STREAM and job.lag is not None else job.kind


def load_of(job: Job, request: FloatArray) -> Load | None:
    """What one replica carries: requests per second, or so much of its cores; None where nothing is said.

    The load of a stream that follows its lag is in replicas (`lag.needed`).
    """
    if job.kind == Kind.STREAM and job.lag is not None:
        return Load(0.0, 1.0, headroom=0.0)  # its owner's number says when one more is wanted
    said = job.load
    if job.kind != Kind.SERVICE or said is None:
        return None
    if said.requests_per_second is not None:
        carries = said.requests_per_second
    elif said.cpu is not None and request[CPU] > 0:
        carries = said.cpu * float(request[CPU])
    else:
        return None
    stated = load.weekly(said.pattern) if said.pattern else None
    return Load(0.0, carries, said.headroom, stated)
