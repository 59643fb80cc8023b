"""A loop as jobs of the pool: NAME-serve, NAME-train, NAME-prepare, NAME-circle. Pure.

They are ordinary jobs. Training is elastic and of a lower class than what serves, so by day, when requests come, the
planner takes workers from it for the service, and by night it gives them back; nothing here has to ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from springtide.serve.loop.places import Places
from springtide.spec.job import Checkpoint, Job, Kind, Priority, Restart
from springtide.spec.loop import Loop
from springtide.spec.quantities import Range
from springtide.spec.resources import Resources

SERVE, TRAIN, PREPARE, CIRCLE = PARTS = ("serve", "train", "prepare", "circle")
LOOP, STREAM, HELD_OUT = "TIDE_LOOP", "TIDE_LOOP_STREAM", "TIDE_LOOP_HELD_OUT"
QUARANTINE, GENERATION = "TIDE_LOOP_QUARANTINE", "TIDE_LOOP_GENERATION"
_PREPARING = Resources(cpu=0.1)
_FOR_EVER = Restart(policy="on-failure")


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a loop lives: its folder, the home that it lies in, and the address of the pool."""

    home: Path
    pool: str

    def places(self, loop: Loop) -> Places:
        return Places(self.home / "loops" / loop.name)


def jobs(loop: Loop, ground: Ground, generation: int, serving: bool) -> list[Job]:
    """All of them; the service only where there is a version that it can serve (`serving`)."""
    first = [serve(loop, ground)] if serving else []
    return [*first, train(loop, ground, generation), prepare(loop, ground), circle(loop, ground)]


def serve(loop: Loop, ground: Ground) -> Job:
    """The model server, on the version that is in production."""
    said = loop.serve
    return Job(
        kind=Kind.SERVICE, name=loop.job(SERVE), team=loop.team, priority=said.priority, replicas=said.replicas,
        resources=said.resources, model=loop.model_name, requests=ground.places(loop).requests(loop), port=said.port,
        load=said.load, args=() if said.sample == 1.0 else ("--sample", f"{said.sample:g}"), python=loop.python,
        labels=_labels(loop),
    )  # fmt: skip


def train(loop: Loop, ground: Ground, generation: int) -> Job:
    """The training of a generation: its own folder of checkpoints, and what it must not read."""
    said, there = loop.train, ground.places(loop)
    told = {
        LOOP: loop.name,
        STREAM: there.training,
        HELD_OUT: there.held_out,
        QUARANTINE: str(there.quarantine(generation)),
        GENERATION: str(generation),
    }
    return Job(
        kind=Kind.TRAINING, name=loop.job(TRAIN), team=loop.team, priority=said.priority, replicas=said.workers,
        resources=said.resources, script=said.script, args=said.args, environment={**said.environment, **told},
        folder=loop.folder, microbatches=said.microbatches, python=loop.python, restart=_FOR_EVER,
        checkpoint=Checkpoint(every=said.every, keep=said.keep, folder=str(there.checkpoints(generation))),
        labels=_labels(loop),
    )  # fmt: skip


def prepare(loop: Loop, ground: Ground) -> Job:
    """Requests and corrections in; joined records to training, every tenth to the held-out stream."""
    return _watching(loop, ground, PREPARE, "springtide.serve.prepare", _PREPARING)


def circle(loop: Loop, ground: Ground) -> Job:
    """Who watches, has candidates judged, and promotes."""
    return _watching(loop, ground, CIRCLE, "springtide.pool.circle", loop.gate.resources)


def _watching(loop: Loop, ground: Ground, part: str, module: str, resources: Resources) -> Job:
    told = {"TIDE_HOME": str(ground.home), "TIDE_POOL": ground.pool, "PYTHONDONTWRITEBYTECODE": "1"}
    return Job(
        kind=Kind.STREAM, name=loop.job(part), team=loop.team, priority=Priority.STANDARD, replicas=Range(1, 1),
        resources=resources, command=("python", "-P", "-m", module, str(ground.places(loop).folder)), environment=told,
        folder=loop.folder, python=loop.python, labels=_labels(loop),
    )  # fmt: skip


def _labels(loop: Loop) -> dict[str, str]:
    return {"loop": loop.name}
