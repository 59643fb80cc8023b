"""The process that carries a loop's circle: `python -m springtide.pool.circle FOLDER`, a stream job of the pool.

It sees (checkpoints, the training's state, who is in production, what people asked), lets `serve/loop/advance` decide,
keeps that on the disk, and carries out what is due. Killed at any instant it goes on where it was.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from springtide.pool import circle_files
from springtide.pool.circle_drift import Watching
from springtide.pool.circle_waiting import Folders
from springtide.pool.circle_work import Worker, production, relocated
from springtide.pool.client import Client
from springtide.serve.loop import advance, expansion
from springtide.serve.loop.circle import (
    CheckpointSeen,
    Circle,
    Event,
    ProductionSeen,
    ReleaseAsked,
    Tick,
    TrainingEnded,
    TrainingGoesOn,
)
from springtide.serve.loop.expansion import Ground
from springtide.serve.loop.places import Places
from springtide.serve.registry import Registry
from springtide.spec.errors import SpringtideError, UserError

LOOK_S = 2.0  # between two looks at what wakes nobody: the pool's jobs, the registry, drift
_LONGEST_S = 30.0  # before what could not be done is tried again
_OVER = ("done", "failed", "cancelled")


class Circling:
    """See the module. One at a time for each loop."""

    def __init__(self, worker: Worker, folders: Folders) -> None:
        self.worker, self.there = worker, worker.there
        self.circle = circle_files.read_state(self.there, worker.loop.gate.every_s)
        self.stopped = False
        self._folders = folders
        self._drift = Watching(worker.loop, self.there)
        self._failures = 0
        self._complaint = ""

    def run(self) -> None:
        """Until it is told to stop."""
        try:
            while not self.stopped:
                self._folders.watch(self.there.checkpoints(self.circle.generation), self.there.asked)
                try:
                    waiting_s = self._turn()
                    self._failures, self._complaint = 0, ""
                except SpringtideError as error:
                    waiting_s = self._complain(error)
                if not self.stopped:
                    self._folders.wait(waiting_s)
        finally:
            self._drift.close()

    def stop(self) -> None:
        self.stopped = True
        self._folders.wake()

    def _turn(self) -> float:
        """Looks, and does what is due; how long nothing will be. SpringtideError: it could not be done now."""
        for event in self._seen():
            self.tell(event)
        while not self.stopped and (instruction := advance.due(self.circle)) is not None:
            self.tell(self.worker.carry_out(instruction, self.circle))
        circle_files.sweep(self.there, self.circle)
        return min(LOOK_S, advance.next_s(self.circle) - time.time())

    def tell(self, event: Event) -> None:
        """What happened is kept before anything is done about it."""
        before, self.circle = self.circle, advance.advance(self.circle, event, time.time())
        if self.circle == before:
            return
        circle_files.write_state(self.there, self.circle)
        for note in self.circle.notes:
            if note not in before.notes:
                print(note.sentence, flush=True)

    # --- seeing

    def _seen(self) -> Iterator[Event]:
        yield from self._asked()
        yield from self._checkpoints()
        current = production(self.worker.registry, self.worker.loop.model_name)
        yield ProductionSeen(current.number if current is not None else None)
        yield self._training()
        yield from self._drift.look()
        yield Tick()

    def _asked(self) -> Iterator[Event]:
        for path, request in circle_files.requests(self.there):
            if "release" in request:
                yield ReleaseAsked(int(request["release"]), str(request.get("by") or "somebody"))
            path.unlink(missing_ok=True)  # it is kept by now

    def _checkpoints(self) -> Iterator[Event]:
        circle = self.circle
        waiting = [one.step for one in (circle.newest, circle.exam.checkpoint if circle.exam else None) if one]
        found = circle_files.newest(self.there, circle.generation, max([circle.examined_step, *waiting]))
        if found is not None:
            yield CheckpointSeen(found, self.worker.held_out_ends())

    def _training(self) -> Event:
        name = self.worker.loop.job(expansion.TRAIN)
        rows = self.worker.client.jobs(name=name, limit=1)
        if not rows:
            return TrainingEnded(f"there is no job {name} in the pool; submit the loop again")
        state, reason = rows[0]["state"], rows[0].get("reason") or ""
        if state in _OVER:
            return TrainingEnded(f"{name} is {state}{f': {reason}' if reason else ''}")
        return TrainingGoesOn()

    def _complain(self, error: SpringtideError) -> float:
        if str(error) != self._complaint:
            print(f"{error}; it is tried again", flush=True)
        self._complaint, self._failures = str(error), self._failures + 1
        return float(min(_LONGEST_S, 2.0 ** (self._failures - 1)))


def circling(folder: Path, folders: Folders) -> Circling:
    """The circle of the loop in that folder, of the home and the pool that the environment names. UserError."""
    there = Places(folder)
    client = Client()
    loop = relocated(circle_files.read_loop(there), Path.cwd())
    ground = Ground(folder.parent.parent, client.address)
    return Circling(Worker(loop, ground, Registry.open(ground.home / "models"), client), folders)


def main() -> int:
    """Started by the pool."""
    if len(sys.argv) != 2:
        raise UserError("FOLDER is missing; write python -m springtide.pool.circle FOLDER")
    folder = Path(sys.argv[1])
    circle_files.lease(Places(folder))
    with Folders() as folders:
        found = circling(folder, folders)
        signal.signal(signal.SIGTERM, lambda *_: found.stop())
        signal.signal(signal.SIGINT, lambda *_: found.stop())
        print(f"circle of {found.worker.loop.name} in process {os.getpid()}", flush=True)
        found.run()
    return 0


def state(there: Places) -> Circle:
    """The circle as it is kept, for who only looks."""
    return circle_files.read_state(there)


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except SpringtideError as error:
        print(error, flush=True)
        raise SystemExit(error.exit_code) from None
