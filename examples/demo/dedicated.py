"""The same work where everybody has machines of his own: the same planner, played on partitions, in virtual time.

The service has nodes for its peak, as whoever must never fail buys them; the teams share the rest equally. What is
asked of the machines is what was recorded: requests as they came, jobs when they came, as much work as was done.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from demo.day import STORY
from demo.machine import JOBS, NODES, SLOT
from demo.recording import Recording
from springtide import spec
from springtide.core import intake
from springtide.core.cluster import make_nodes
from springtide.core.curves import of_microbatches
from springtide.core.resources import CPU, FloatArray, vector
from springtide.core.snapshot import KIND_NAMES
from springtide.sim.engine import Play
from springtide.sim.policies import Springtide
from springtide.sim.record import Record
from springtide.sim.trace import LoadChange, Task, Trace
from springtide.spec.job import Job, Kind

RATE_S = 1.0
WEB, TRAINING = "web", "digits"
GIB = 2**30


@dataclass(frozen=True)
class Shares:
    """What became of the cores' time, as shares of all of it; and of the training, by the same moment."""

    held: float  # given to somebody
    used: float  # in which work was done: of the service, what its requests need
    trained: float  # of the training's work


def jobs() -> dict[str, Job]:
    """As the files say, by name."""
    found = [job for path in sorted(JOBS.glob("*.yaml")) if path.stem != "pool" for job in spec.jobs(path)]
    return {job.name: job for job in found}


def carries() -> float:
    """Requests per second of one replica of the service."""
    load = jobs()[WEB].load
    assert load is not None and load.requests_per_second is not None
    return load.requests_per_second


def speeds(microbatches: int = 8) -> FloatArray:
    """(5,) speed of the training with so many workers, against one."""
    return of_microbatches(microbatches, jobs()[TRAINING].replicas.maximum)


def as_it_was(day: Recording) -> Shares:
    """Of the pool that ran, by the same definitions."""
    each, speed, rates = carries(), speeds(), dict(day.rates(RATE_S))
    ends = np.array([at_s + RATE_S / 2 for at_s in rates])
    values = np.array(list(rates.values()))
    held = used = whole = trained = 0.0
    now_s = max(day.midnight_s, day.samples[0].at_s)
    for span_s, holders in day.spans(from_s=day.midnight_s):
        place = min(int(np.searchsorted(ends, now_s, "right")), len(values) - 1) if len(values) else -1
        asked = float(values[place]) / each if place >= 0 else 0.0
        training = float(speed[min(holders.get(TRAINING, 0), len(speed) - 1)])
        others = sum(count for name, count in holders.items() if name not in (WEB, TRAINING))
        held += span_s * sum(holders.values())
        used += span_s * (min(asked, holders.get(WEB, 0)) + training + others)
        trained += span_s * training
        whole += span_s * NODES
        now_s += span_s
    return Shares(held / whole, used / whole, 1.0) if whole else Shares(0.0, 0.0, 0.0)


def work(day: Recording) -> float:
    """What the training did, in seconds of one worker alone."""
    speed = speeds()
    counts = ((span_s, holders.get(TRAINING, 0)) for span_s, holders in day.spans(from_s=day.midnight_s))
    return sum(span_s * float(speed[min(count, len(speed) - 1)]) for span_s, count in counts)


def partitions(day: Recording) -> list[str]:
    """Whose each node is: the service's for its peak, then one after the other the teams'."""
    peak = max((sample.held.get(WEB, 0) for sample in day.samples), default=1)
    teams = sorted({job.team for job in jobs().values()})
    return [WEB] * peak + [teams[n % len(teams)] for n in range(NODES - peak)]


def trace(day: Recording, dedicated: bool) -> Trace:
    """The recorded day as the simulator takes it; `dedicated`: each job keeps to its own partition."""
    teams = intake.make_teams(spec.pool(JOBS / "pool.yaml", nodes_elsewhere=True))
    own = partitions(day)
    labels = [{"partition": name} for name in own]
    nodes = make_nodes(
        np.array([vector(cpu=SLOT, memory=2 * GIB)] * NODES), [f"node-{n}" for n in range(NODES)], labels
    )
    span_s = day.end_s - day.midnight_s
    tasks = []
    for name, job in jobs().items():
        wishes = {"partition": (WEB if name == WEB else job.team,)} if dedicated else {}
        came_s = max(0.0, day.jobs[name]["submitted_s"] - day.midnight_s) if name in day.jobs else 0.0
        task = Task(
            name=name, submit_s=came_s, request=vector(cpu=SLOT, memory=float(job.resources.memory)),
            kind=KIND_NAMES.index(job.kind.value), minimum=job.replicas.minimum, maximum=job.replicas.maximum,
            team=teams.names.index(job.team), priority=int(job.priority), wishes=wishes, work_known=False,
            bid_core=job.bid.per_core_hour if job.bid else 0.0, per_replica=carries(), headroom=0.0,
        )  # fmt: skip
        match job.kind:
            case Kind.SERVICE:
                task = replace(task, leave_s=span_s)
            case Kind.TRAINING:
                task = replace(task, work_s=work(day), speeds=speeds(), asked=job.replicas.maximum)
            case _:
                task = replace(task, work_s=_hours(name) * day.day_s / 24)
        tasks.append(task)
    loads = [LoadChange(at_s - day.midnight_s - RATE_S / 2, WEB, rate) for at_s, rate in day.rates(RATE_S)]
    return Trace(
        name="the recorded day", nodes=nodes, teams=teams, tasks=sorted(tasks, key=lambda task: task.submit_s),
        loads=loads, tick_s=1.0, end_s=span_s, window_s=(0.0, span_s),
    )  # fmt: skip


def _hours(name: str) -> float:
    return next(one.hours for one in STORY if one.what == f"submit_{name}")


def played(day: Recording, dedicated: bool, scale_down_s: float) -> Shares:
    """What the planner makes of the recorded day."""
    found = trace(day, dedicated)
    record = Record(found)
    play = Play(found, Springtide(found), record)
    play.cluster.settings = replace(play.cluster.settings, scale_down_after_s=scale_down_s)
    play.run()
    metrics, row = record.metrics(play), play.cluster.rows.get(TRAINING)
    left = 0.0 if row is None or row not in play.tasks else float(play.left[row])
    assert found.total()[CPU] > 0
    return Shares(metrics["cpu_allocated"] / 100, metrics["cpu_used"] / 100, 1.0 - left / max(work(day), 1e-9))
