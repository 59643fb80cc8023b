"""Writes states from the arena to their destination: `Scribe`, and the process of its own in which one works.

`python -m springtide.train.scribe FOLDER` is started by the keeper: hashing and writing hundreds of megabytes takes
seconds of a core, which the workers need, and would hold the interpreter that looks after them. Orders and answers are
lines of JSON. It lives and dies with its supervisor: a buffer given back by the next one is not read any more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from springtide.spec import SpringtideError
from springtide.train import arena as arenas
from springtide.train import checkpoint, futex
from springtide.train.arena import Arena, Shape
from springtide.train.inventory import Inventory
from springtide.train.launched import Launched
from springtide.train.manifest import ManifestFields, Order
from springtide.train.protocol import Kind

Event = dict[str, Any]


@dataclass(frozen=True)
class Destination:
    """Where checkpoints of a run go, and what they say of it."""

    root: str
    name: str
    run_id: str
    order: Order
    config: dict[str, Any]
    keep: int

    @classmethod
    def of(cls, launched: Launched, description: dict[str, Any]) -> Destination:
        """Of the run that an arena describes."""
        order = Order(**description["order"])
        return cls(launched.checkpoint, launched.name, launched.run_id, order, description["config"], launched.keep)


@dataclass
class Written:
    """What came of an order: what there is to tell, and the digest of the state, if it was written."""

    events: list[Event] = field(default_factory=list)
    digest: str | None = None

    def warn(self, message: str) -> None:
        self.events.append({"event": "warning", "message": message})


class _Overtaken(SpringtideError):
    """The best model changed while it was being written."""


class Scribe:
    """See the module. Nothing here decides when; whoever calls has the buffer lent."""

    def __init__(self, arena: Arena, inventory: Inventory, to: Destination) -> None:
        self._arena, self._inventory, self._to = arena, inventory, to
        self._best, self._best_on_disk = f"{to.root}/best", -1

    def make_third(self) -> Written:
        """Give memory to the third buffer: takes a second where the state is large."""
        done = Written()
        try:
            arenas.allocate_third(self._arena.descriptor, self._arena.shape)
        except OSError as error:
            done.warn(f"no memory for the third buffer ({error.strerror}): checkpoints only at the end")
        return done

    def write(self, buffer: int, record: dict[str, Any] | None = None, *, finished: bool) -> Written:
        """The state in that buffer, and the best model where the disk has another; `record`: of its evaluations."""
        position = self._arena.position(buffer) | ({"record": record} if record else {})
        done = Written()
        if position.get("record", {}).get("best"):
            done.events += self.write_best().events
        step, began = int(position["step"]), time.time()
        about = self._about(step, position, finished=finished)
        try:
            made = checkpoint.write(
                self._to.root, self._inventory.tensors(self._arena, buffer), about, keep=self._to.keep
            )
        except SpringtideError as error:
            done.warn(f"no checkpoint of step {step}: {error}")
            return done
        done.digest = made.digest
        done.events.append({"event": "checkpoint", "time": began, "step": step, "path": made.path,
                            "seconds": made.seconds, "bytes": made.bytes})  # fmt: skip
        for warning in made.warnings:
            done.warn(warning)
        return done

    def write_best(self) -> Written:
        """The best model, unless a later evaluation comes meanwhile: then it is asked for again."""
        record, done = self._record(), Written()
        if not record.get("best") or self._has_best(record["best"]["step"]):
            return done
        wanted, seen = record["best"]["step"], len(record["recent"]) and record["recent"][-1]["step"]

        def unchanged(_: int = 0) -> None:
            now, newest = self._record(), max(self._arena.header(0), self._arena.header(1), key=lambda h: h.tick)
            if newest.kind == Kind.EVALUATE or now.get("recent", [{}])[-1].get("step") != seen:
                raise _Overtaken("a later evaluation came")

        try:
            unchanged()
            about = self._about(wanted, {"step": wanted, "metrics": record["best"]["metrics"]}, finished=False)
            checkpoint.write(self._best, self._inventory.best(self._arena), about, keep=2, pace=unchanged)
            self._best_on_disk = wanted
        except _Overtaken:
            pass
        except SpringtideError as error:
            done.warn(f"the best model (step {wanted}) was not kept: {error}")
        return done

    def _has_best(self, step: int) -> bool:
        """Whether the disk has the best model of that step already, from this scribe or one before."""
        if self._best_on_disk != step:
            with suppress(SpringtideError):
                kept = [found.manifest for found in checkpoint.find(self._best) if found.problem is None]
                if any(one and (one.run_id, one.step) == (self._to.run_id, step) for one in kept):
                    self._best_on_disk = step
        return self._best_on_disk == step

    def _record(self) -> dict[str, Any]:
        latest = max((0, 1), key=lambda parity: self._arena.header(parity).tick)
        return self._arena.record(latest)

    def _about(self, step: int, position: dict[str, Any], *, finished: bool) -> ManifestFields:
        return ManifestFields(
            name=self._to.name, run_id=self._to.run_id, step=step, order=self._to.order, finished=finished,
            config=self._to.config, position=position,
        )  # fmt: skip


def obey(scribe: Scribe, order: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order."""
    match order["do"]:
        case "third":
            done = scribe.make_third()
        case "best":
            done = scribe.write_best()
        case _:
            done = scribe.write(int(order["buffer"]), finished=False)
    return {"events": done.events, "digest": done.digest}


def main() -> int:
    """Until the supervisor closes its end or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    futex.die_with_parent()
    if os.getppid() != int(sys.argv[2]):  # it was dead before
        return 1
    launched = Launched.read(Path(sys.argv[1]))
    arena = Arena(launched.arena, Shape(**launched.shape()))
    description = arena.description()
    scribe = Scribe(arena, Inventory.parse(description["inventory"]), Destination.of(launched, description))
    for line in sys.stdin:
        print(json.dumps(obey(scribe, json.loads(line))), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
