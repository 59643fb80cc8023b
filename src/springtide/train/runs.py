"""The runs of this machine: their folders, and what their arenas say."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from springtide.spec import Refused, UserError, home
from springtide.train import control, process
from springtide.train.arena import MAGIC, WORKERS, Arena, Row, Shape, State, Word
from springtide.train.launched import FILE, Launched
from springtide.train.protocol import UNLIMITED, Kind

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")


def folder(name: str) -> Path:
    """Where a run of that name keeps its things. UserError: it cannot be a name."""
    if not _NAME.match(name):
        raise UserError(
            f"'{name}' cannot name a run: letters, digits, '.', '_' and '-', beginning with a letter or digit"
        )
    return home.runs() / name


def living(launched: Launched) -> bool:
    """Whether its `tide run` is there."""
    return process.alive(launched.launcher, launched.launcher_started)


def listing() -> list[dict[str, Any]]:
    """A row for each run known here, the living first."""
    rows = []
    for path in sorted(home.runs().glob(f"*/{FILE}")):
        try:
            rows.append(_row(Launched.read(path.parent)))
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return sorted(rows, key=lambda row: (row["state"] not in ("running", "starting"), -row["since"]))


def request(name: str, message: dict[str, Any], timeout_seconds: float = 30.0) -> dict[str, Any]:
    """Ask the supervisor of a living run. UserError: there is no such run; Refused: it says no."""
    try:
        launched = Launched.read(folder(name))
    except (OSError, ValueError, TypeError):
        known = ", ".join(row["name"] for row in listing()) or "none"
        raise UserError(f"no run is named '{name}' here; known: {known}") from None
    return ask(launched, message, timeout_seconds)


def ask(launched: Launched, message: dict[str, Any], timeout_seconds: float = 30.0) -> dict[str, Any]:
    """Ask the supervisor of a run wherever its folder lies. Refused: it is not running, or says no."""
    name = launched.name
    if not living(launched):
        raise Refused(f"'{name}' is not running (it is {launched.state}); `tide ps` lists those that are")
    try:
        channel = control.connect(launched.socket, timeout_seconds)
        reply = channel.ask(message)
    except OSError as error:
        raise Refused(f"'{name}' does not answer ({error.strerror or error}); try again") from None
    if reply is None:
        raise Refused(f"'{name}' ended meanwhile")
    if "error" in reply:
        raise (Refused if reply.get("exit_code") == 4 else UserError)(reply["error"])
    return reply


def open_arena(launched: Launched) -> Arena | None:
    """The arena of a living run, through its launcher; None while there is none yet."""
    try:
        descriptor = os.open(f"/proc/{launched.launcher}/fd/{launched.arena}", os.O_RDWR)
        if not os.fstat(descriptor).st_size:
            os.close(descriptor)
            return None
        arena = Arena(descriptor, Shape(**launched.shape()))
    except (OSError, ValueError):
        return None
    return arena if arena.words[Word.MAGIC] == MAGIC else None


def workers(arena: Arena) -> list[dict[str, Any]]:
    """The workers that a table names: id, pid, share of the microbatches, state."""
    now = arena.now()
    owners = arena.table(now.generation).blocks.tolist() if now else []
    chunks = arena.table(now.generation).chunks.tolist() if now else []
    found = []
    for worker in range(WORKERS):
        row = arena.rows[worker]
        if row[Row.PID] and worker in (*owners, *chunks):
            share = owners.count(worker) / len(owners)
            state = "working" if row[Row.STATE] == State.READY else "ended"
            found.append({"id": worker, "pid": row[Row.PID], "share": round(share, 4), "state": state})
    return found


def _row(launched: Launched) -> dict[str, Any]:
    alive = living(launched)
    state = launched.state if alive or launched.state not in ("running", "starting") else "interrupted"
    row: dict[str, Any] = {
        "name": launched.name, "state": state, "step": None, "steps": None, "loss": None, "supervisor": None,
        "workers": [], "M": None, "since": launched.began, "checkpoint": launched.checkpoint,
    }  # fmt: skip
    arena = open_arena(launched) if alive else None
    if arena is None:
        row.update(_last(launched.folder))
        return row
    now = arena.now()
    description = arena.description()
    row.update(
        supervisor=arena.words[Word.SUPERVISOR] or None,
        workers=workers(arena),
        M=description["order"]["microbatches"],
        steps=_known(arena.last_step(description["course"]["steps"])),
    )
    if now is not None:
        row["step"] = now.step - (now.kind == Kind.TRAIN)
        for record in arena.steps_after(row["step"] - 1, row["step"]):
            row["loss"] = record.loss
    os.close(arena.descriptor)
    return row


def _known(steps: int) -> int | None:
    """None: a stream whose end nobody knows."""
    return steps if steps < UNLIMITED else None


def _last(path: Path) -> dict[str, Any]:
    """Step of a run that is over, from its last event."""
    try:
        last = (path / "events.jsonl").read_text().splitlines()[-1]
        event = json.loads(last)
        return {"step": event.get("step")}
    except (OSError, ValueError, IndexError):
        return {}
