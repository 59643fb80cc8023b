"""What exactly is to run for a place that the pool gave: program, environment, limits. Pure."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from springtide.engines.engine import Place, Task, run_name
from springtide.engines.local.gpus import visible
from springtide.engines.local.limits import USUAL_WEIGHT, Limits
from springtide.engines.local.people import Person
from springtide.engines.local.state import Folder, Order
from springtide.spec.home import models
from springtide.spec.job import Job, Kind, Priority

# Of the server's own environment: what says where this machine keeps programs, libraries, words and time. Libraries
# among them, since an interpreter that the server could only start with it would not start without.
INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
PIDS = 4096
_TIMES = {Priority.PRODUCTION: 8, Priority.STANDARD: 4, Priority.EXPERIMENT: 2, Priority.SPOT: 1}


def orders(
    task: Task, places: Sequence[Place], folder: Folder, person: Person | None, gpus: bool, now_s: float
) -> list[Order]:
    """One for each place; of training one for all."""
    if task.job.kind == Kind.TRAINING:
        every = tuple(sorted({device for place in places for device in place.devices}))
        room = Place(run_name(task.attempt), places[0].node if places else "", every)
        return [_order(task, room, folder, person, gpus, now_s, len(places))]
    return [_order(task, place, folder, person, gpus, now_s, 1) for place in places]


def limits(job: Job, workers: int = 1) -> Limits:
    """Of one replica, or of training with so many workers; there the parked worker and the nursery need one share."""
    asked, memory = job.resources, job.resources.memory
    weight = USUAL_WEIGHT * _TIMES[job.priority] / _TIMES[Priority.STANDARD] * (asked.cpu or 1.0) * workers
    shares = workers + 1 if job.kind == Kind.TRAINING else 1
    return Limits(
        cpu=asked.cpu * workers or None,
        weight=max(1, round(weight)),
        memory_bytes=round(memory * shares) or None,
        pids=PIDS,
        disk_bytes_per_s=asked.disk * workers or None,
        whole=job.kind != Kind.TRAINING,  # a worker that dies for memory is replaced by the run itself
    )


def interpreter(job: Job) -> str:
    """Of the script, or of a command that begins with `python`."""
    return job.python or sys.executable


def environment(own: Mapping[str, str] | None = None) -> dict[str, str]:
    """What everything begins with, the server's secrets not among it."""
    given = os.environ if own is None else own
    return {name: given[name] for name in INHERITED if name in given} | {"LANG": given.get("LANG", "C.UTF-8")}


def _order(
    task: Task, place: Place, folder: Folder, person: Person | None, gpus: bool, now_s: float, workers: int
) -> Order:
    job = task.job
    return Order(
        replica=place.replica,
        argv=_argv(task, folder.attempt(place.replica), folder.replica(place.replica)),
        environment=_environment(task, place, folder, person, gpus),
        revision=task.revision,
        node=place.node,
        devices=place.devices,
        source=str(task.source) if task.source else None,
        port=job.port,
        handed=job.port is not None and job.listen == "handed",
        service=job.kind == Kind.SERVICE or job.lag is not None,
        main_only=job.kind == Kind.TRAINING,
        witnessed=job.kind == Kind.BATCH,
        limits=limits(job, workers),
        person=_told(person),
        ordered_s=now_s,
    )


def _argv(task: Task, attempt: Path, at: Path) -> tuple[str, ...]:
    job = task.job
    if job.kind == Kind.TRAINING:
        return (interpreter(job), "-P", "-m", "springtide.engines.local.training", str(attempt))
    if job.model is not None:
        return (interpreter(job), "-P", "-m", "springtide.serve.server", *_serving(job, at), *job.args)
    program = interpreter(job) if job.command[0] == "python" else job.command[0]
    return (program, *job.command[1:], *job.args)


def _serving(job: Job, at: Path) -> tuple[str, ...]:
    """Words for the model server. It is told where models lie, since its environment does not say."""
    words = ["--model", str(job.model), "--registry", str(models()), "--admin", str(at / "admin.sock")]
    words += ["--threads", str(max(1, int(job.resources.cpu)))]
    words += ["--port", str(job.port), "--shared-port"] if job.listen == "own" else []
    words += ["--requests", job.requests] if job.requests is not None else []
    return tuple(words)


def _environment(task: Task, place: Place, folder: Folder, person: Person | None, gpus: bool) -> dict[str, str]:
    job = task.job
    home = str(person.home) if person else os.environ.get("HOME", "/")
    user = job.team if person else os.environ.get("USER", "")
    found = environment() | {"HOME": home, "USER": user, "PYTHONUNBUFFERED": "1"}
    if place.devices or gpus:
        found |= visible(place.devices)
    if job.port is not None:
        found["PORT"] = str(job.port)
    if task.secrets:
        found["TIDE_SECRETS"] = str(folder.secrets)
    if job.kind == Kind.TRAINING:
        found["TIDE_HOME"] = str(folder.run)
    found.update(job.environment)
    found.update(
        TIDE_JOB=task.id,
        TIDE_REPLICA=f"{task.id}/{place.replica}",
        TIDE_TEAM=job.team,
        TIDE_SCRATCH=str(folder.scratch(place.replica)),
        TIDE_RESULTS=str(folder.results),
    )
    return found


def _told(person: Person | None) -> dict[str, Any] | None:
    if person is None:
        return None
    return {key: value if isinstance(value, int) else str(value) for key, value in asdict(person).items()}


def launch(task: Task, folder: Folder, workers: int) -> dict[str, Any]:
    """What the process of a training job reads; see `training`."""
    job = task.job
    every, keep = job.checkpoint.every, job.checkpoint.keep
    return {
        "name": job.name,
        "script": task.script,
        "arguments": list(job.args),
        "start": workers,
        "checkpoint": job.checkpoint.folder or str(folder.results / "checkpoints"),
        "every": {"seconds": every.seconds, "steps": every.steps} if every else None,
        "keep": keep,
    }
