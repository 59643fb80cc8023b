"""Checkpoints, from the supervisor's side: borrow a buffer, have it written, give it back (Checkpoint law)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from springtide.train import process, vigil
from springtide.train.arena import WORKERS, Arena, Row, State, Word
from springtide.train.inventory import Inventory
from springtide.train.launched import Launched
from springtide.train.protocol import Header
from springtide.train.scribe import Destination, Scribe, Written

Tell = Callable[[dict[str, Any]], None]


class Keeper:
    """Has checkpoints of a running job written. `tell` gets events; it is called from a thread of this class too."""

    def __init__(self, arena: Arena, launched: Launched, tell: Tell) -> None:
        self._arena, self._launched, self._tell = arena, launched, tell
        self._thread: threading.Thread | None = None
        self._scribe: subprocess.Popen[str] | None = None
        self._asked = arena.words[Word.LOAN] > arena.words[Word.RETURNED]
        self._impossible = False

    @property
    def busy(self) -> bool:
        """A checkpoint is asked for or being written."""
        return self._asked or self._writing

    @property
    def _writing(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def ask(self) -> None:
        """Ask for a loan; what follows happens in `look`."""
        if self.busy or self._impossible:
            return
        self._asked = True
        self._hire()
        if not self._arena.words[Word.THIRD]:
            self._begin(self._make_third)

    def look(self, now: Header) -> None:
        """To be called when something was committed: asks for the loan once all are ready, takes it once granted."""
        words = self._arena.words
        if not self._asked or self._writing:
            return
        if words[Word.LOAN] == words[Word.RETURNED]:
            if self._all_populated():
                words[Word.LOAN] += 1
        elif now.loan == words[Word.LOAN] and now.lent >= 0:
            self._hire()
            self._begin(self._write_loan, now.lent)

    def best(self) -> None:
        """A better model was found: keep it beside the checkpoints, unless a write is under way (it will ask again)."""
        if self._arena.shape.best_bytes and not self._writing:
            self._hire()
            self._begin(self._order, {"do": "best"})

    def last(self, buffer: int, *, finished: bool, record: dict[str, Any]) -> str | None:
        """At the end, nobody writes any more: keep that state. Returns its digest (None: it could not be written)."""
        found: list[Written] = []

        def write() -> None:
            # Nobody computes meanwhile, so it is written here: a new process would only be later.
            description = self._arena.description()
            to = Destination.of(self._launched, description)
            found.append(
                Scribe(self._arena, Inventory.parse(description["inventory"]), to).write(
                    buffer, record, finished=finished
                )
            )

        self.join()
        self._begin(write)
        self.join()
        for event in found[0].events if found else ():
            self._tell(event)
        return found[0].digest if found else None

    def join(self) -> None:
        """Wait for the write under way. A slow disk is no hang, so the launcher is shown a supervisor that beats."""
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(vigil.BEAT_SECONDS)
            self._arena.words[Word.SUPERVISOR_BEAT] = time.monotonic_ns()
            scribe = process.stat(self._scribe.pid) if self._scribe is not None else None
            if self._scribe is not None and scribe is not None and scribe.state in ("T", "t"):
                self._scribe.kill()  # it would never come to an end

    def end(self) -> None:
        """Let what is being written be finished, and leave no process."""
        self.join()
        if self._scribe is not None:
            self._scribe.kill()
            self._scribe.wait()

    def _begin(self, what: Callable[..., object], *arguments: Any) -> None:
        self._thread = threading.Thread(target=what, args=arguments, daemon=True)
        self._thread.start()

    def _make_third(self) -> None:
        answer = self._order({"do": "third"})
        if answer == {"events": [], "digest": None}:
            self._arena.words[Word.THIRD] = 1
        else:
            self._impossible, self._asked = answer is not None, False

    def _all_populated(self) -> bool:
        rows = self._arena.rows[:WORKERS]
        living = [row for row in rows if row[Row.PID] and row[Row.STATE] == State.READY]
        return bool(living) and all(row[Row.POPULATED] for row in living)

    def _write_loan(self, buffer: int) -> None:
        try:
            self._order({"do": "write", "buffer": buffer})
        finally:  # whatever went wrong, the next checkpoint must find a buffer
            self._asked = False
            self._arena.words[Word.RETURNED] = self._arena.words[Word.LOAN]

    # --- the process that writes

    def _order(self, order: dict[str, Any]) -> dict[str, Any] | None:
        """Have the scribe do it, and tell what it tells. None: it died over it, so nothing of it is read any more."""
        scribe = self._scribe
        assert scribe is not None and scribe.stdin is not None and scribe.stdout is not None
        answer = None
        with suppress(OSError, ValueError):
            scribe.stdin.write(json.dumps(order) + "\n")
            scribe.stdin.flush()
            answer = json.loads(scribe.stdout.readline())
        lost = {"event": "warning", "message": f"no checkpoint now: the process that writes it ({scribe.pid}) died"}
        for event in answer["events"] if answer else [lost]:
            self._tell(event)
        return answer

    def _hire(self) -> None:
        """A scribe is there. To be called by the thread that lives longest: the scribe dies with its maker's thread."""
        if self._scribe is not None and self._scribe.poll() is None:
            return
        folder = self._launched.folder
        command = [sys.executable, "-m", "springtide.train.scribe", str(folder), str(os.getpid())]
        with (folder / "supervisor.log").open("ab") as log:
            self._scribe = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                pass_fds=[self._launched.arena], start_new_session=True,
            )  # fmt: skip
        with suppress(OSError):  # only what the workers leave of a core: a checkpoint may be late, a step may not
            os.sched_setscheduler(self._scribe.pid, os.SCHED_IDLE, os.sched_param(0))
