"""Checkpoints, from the supervisor's side: borrow a buffer, write it out in a thread, give it back (Checkpoint law)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from springtide.spec import SpringtideError
from springtide.train import arena as arenas
from springtide.train import checkpoint, vigil
from springtide.train.arena import WORKERS, Arena, Row, State, Word
from springtide.train.inventory import Inventory
from springtide.train.manifest import ManifestFields, Order
from springtide.train.protocol import Header, Kind

Tell = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Destination:
    """Where checkpoints of a run go, and what they say of it."""

    root: str
    name: str
    run_id: str
    order: Order
    config: dict[str, Any]
    keep: int


class _Overtaken(SpringtideError):
    """The best model changed while it was being written."""


class Keeper:
    """Writes checkpoints of a running job. `tell` gets events; it is called from a thread of this class too."""

    def __init__(self, arena: Arena, inventory: Inventory, to: Destination, tell: Tell) -> None:
        self._arena, self._inventory, self._to, self._tell = arena, inventory, to, tell
        self._thread: threading.Thread | None = None
        self._asked = arena.words[Word.LOAN] > arena.words[Word.RETURNED]
        self._impossible = False
        self._best_on_disk = -1
        self.failed = False

    @property
    def busy(self) -> bool:
        """A checkpoint is asked for or being written."""
        return self._asked or (self._thread is not None and self._thread.is_alive())

    def ask(self) -> None:
        """Ask for a loan; what follows happens in `look`."""
        if self.busy or self._impossible:
            return
        self._asked = True
        if not self._arena.words[Word.THIRD]:
            self._begin(self._make_third)

    def look(self, now: Header) -> None:
        """To be called when something was committed: asks for the loan once all are ready, takes it once granted."""
        words = self._arena.words
        if not self._asked or (self._thread is not None and self._thread.is_alive()):
            return
        if words[Word.LOAN] == words[Word.RETURNED]:
            if self._all_populated():
                words[Word.LOAN] += 1
        elif now.loan == words[Word.LOAN] and now.lent >= 0:
            self._begin(self._write_loan, now.lent)

    def best(self) -> None:
        """A better model was found: keep it beside the checkpoints, unless a write is under way (it will ask again)."""
        if self._arena.shape.best_bytes and not (self._thread is not None and self._thread.is_alive()):
            self._begin(self._write_best)

    def last(self, step: int, buffer: int, *, finished: bool, record: dict[str, Any]) -> str | None:
        """At the end, nobody writes any more: keep that state. Returns its digest (None: it could not be written)."""
        digests: list[str | None] = []

        def write() -> None:
            if record.get("best"):
                self._write_best()
            position = self._arena.position(buffer) | ({"record": record} if record else {})
            digests.append(self._write(step, buffer, position, finished=finished))

        self.join()
        self._begin(write)
        self.join()
        return digests[0] if digests else None

    def join(self) -> None:
        """Wait for the write under way. A slow disk is no hang, so the launcher is shown a supervisor that beats."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(vigil.BEAT_SECONDS)
            self._arena.words[Word.SUPERVISOR_BEAT] = time.monotonic_ns()

    def _begin(self, what: Callable[..., None], *arguments: Any) -> None:
        self._thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._thread.start()

    def _make_third(self) -> None:
        """Takes a second where the state is large, and workers may die meanwhile: in the thread."""
        try:
            arenas.allocate_third(self._arena.descriptor, self._arena.shape)
        except OSError as error:
            self._impossible, self._asked = True, False
            message = f"no memory for the third buffer ({error.strerror}): checkpoints only at the end"
            self._tell({"event": "warning", "message": message})
            return
        self._arena.words[Word.THIRD] = 1

    def _all_populated(self) -> bool:
        rows = self._arena.rows[:WORKERS]
        living = [row for row in rows if row[Row.PID] and row[Row.STATE] == State.READY]
        return bool(living) and all(row[Row.POPULATED] for row in living)

    def _write_loan(self, buffer: int) -> None:
        position = self._arena.position(buffer)
        best = position.get("record", {}).get("best")
        try:
            if best and self._best_on_disk != best["step"]:
                self._write_best()
            self._write(int(position["step"]), buffer, position, finished=False)
        finally:  # whatever went wrong, the next checkpoint must find a buffer
            self._asked = False
            self._arena.words[Word.RETURNED] = self._arena.words[Word.LOAN]

    def _write(self, step: int, buffer: int, position: dict[str, Any], *, finished: bool) -> str | None:
        tensors = self._inventory.tensors(self._arena, buffer)
        about = self._about(step, position, finished=finished)
        began = time.time()
        try:
            done = checkpoint.write(self._to.root, tensors, about, keep=self._to.keep)
        except SpringtideError as error:
            self.failed = True
            self._tell({"event": "warning", "message": f"no checkpoint of step {step}: {error}"})
            return None
        self.failed = False
        self._tell({"event": "checkpoint", "time": began, "step": step, "path": done.path, "seconds": done.seconds,
                    "bytes": done.bytes})  # fmt: skip
        for warning in done.warnings:
            self._tell({"event": "warning", "message": warning})
        return done.digest

    def _write_best(self) -> None:
        record = self._record()
        if not record.get("best"):
            return
        wanted, seen = record["best"]["step"], len(record["recent"]) and record["recent"][-1]["step"]
        if wanted == self._best_on_disk:
            return

        def unchanged(_: int = 0) -> None:
            now, parity = self._record(), max(self._arena.header(0), self._arena.header(1), key=lambda h: h.tick)
            if parity.kind == Kind.EVALUATE or now.get("recent", [{}])[-1].get("step") != seen:
                raise _Overtaken("a later evaluation came")

        try:
            unchanged()
            about = self._about(wanted, {"step": wanted, "metrics": record["best"]["metrics"]}, finished=False)
            checkpoint.write(f"{self._to.root}/best", self._inventory.best(self._arena), about, keep=2, pace=unchanged)
            self._best_on_disk = wanted
        except _Overtaken:
            return
        except SpringtideError as error:
            self._tell({"event": "warning", "message": f"the best model (step {wanted}) was not kept: {error}"})

    def _record(self) -> dict[str, Any]:
        latest = max((0, 1), key=lambda parity: self._arena.header(parity).tick)
        return self._arena.record(latest)

    def _about(self, step: int, position: dict[str, Any], *, finished: bool) -> ManifestFields:
        return ManifestFields(
            name=self._to.name, run_id=self._to.run_id, step=step, order=self._to.order, finished=finished,
            config=self._to.config, position=position,
        )  # fmt: skip
