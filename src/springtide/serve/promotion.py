"""Promotion as a whole: judged, written down, told to every server that answers with the model; or undone.

It returns once each living server answers with the new version. One that cannot load it says why, and all go back.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import select
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

from springtide.serve import gate
from springtide.serve.judging import GateRule, Verdict
from springtide.serve.registry import Attendant, Change, Registry, Stage, Version, folder
from springtide.spec.errors import Refused, SpringtideError
from springtide.train import control, process

ANSWER_S = 120.0  # in which a server loads a version and warms it up
_AGAIN_S = 0.05  # before a server that is still starting is asked again
_ANSWER_BYTES = 1 << 20


def promote(
    registry: Registry, name: str, number: int, *, by: str, verdict: Verdict | None = None, force: bool = False,
    data: str | None = None, code_from: Path | None = None, answer_s: float = ANSWER_S, evaluate: bool = True,
) -> Change:  # fmt: skip
    """Make a version production, and return when every living server of the model answers with it.

    Without `force` it must have passed the gate against what is production now: by `verdict`, by the one on record, or
    (where `evaluate` allows it) by a judgement here, on `data` or on that of the model's rule. Refused: it did not,
    there is nothing to judge by, or another promotion is under way. SpringtideError: a server cannot load it; then all
    is as it was.
    """
    version = registry.version(name, number)
    if evaluate and not force and verdict is None and version.stage not in (Stage.PRODUCTION, Stage.ARCHIVED):
        verdict = _judged(registry, version, data, code_from)  # while others may still promote, or roll back
    with _alone(registry, name, by):
        _check_files(version)
        change = registry.promote(name, version.number, by=by, verdict=verdict, force=force)
        return _told(registry, change, by, answer_s)


def rollback(registry: Registry, name: str, *, by: str, answer_s: float = ANSWER_S) -> Change:
    """Make the previous version production again; otherwise as `promote`, without a gate."""
    with _alone(registry, name, by):
        for version in registry.versions(name):
            if version.stage is Stage.PREVIOUS:
                _check_files(version)
        change = registry.rollback(name, by=by)
        return _told(registry, change, by, answer_s)


def archive(registry: Registry, name: str, number: int, *, by: str) -> Change:
    """Set a version aside, but not while a promotion may have to be undone. Refused: it is production."""
    with _alone(registry, name, by):
        return registry.archive(name, number, by=by)


def refresh(server: Attendant, number: int, answer_s: float = ANSWER_S) -> str | None:
    """Have a server answer with that version. None: it does, or is dead; else its sentence why it does not."""
    until_s = time.monotonic() + answer_s
    what = f"the server with process id {server.pid}"
    while process.alive(server.pid, server.started):
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return f"{what} did not answer within {answer_s:g} s"
        try:
            answer = _asked(server, number, left_s)
        except (OSError, http.client.HTTPException, ValueError):
            _wait(server.pid, _AGAIN_S)  # it is starting, or ending
            continue
        if "error" in answer:
            return f"{what} says: {answer['error']}"
        if answer.get("version") != number:
            return f"{what} answers with version {answer.get('version')} all the same"
        return None
    return None


def _check_files(version: Version) -> None:
    """SpringtideError: weights or code of the version were changed since it was registered."""
    folder.verified(version.path, version.digest, f"version {version.number} of {version.name}")


def _judged(registry: Registry, version: Version, data: str | None, code_from: Path | None) -> Verdict | None:
    """The verdict on record where it still stands, else a new one; None: there is nothing to judge by."""
    if data is None and (known := registry.standing(version)) is not None:
        return known
    rule = registry.rule(version.name)
    if data is None and (rule is None or rule.data is None):
        return None
    return gate.decide(registry, version, rule or GateRule(), data=data, code_from=code_from)


def _told(registry: Registry, change: Change, by: str, answer_s: float) -> Change:
    """Every server is told; if one cannot, the change is undone, and they are told so."""
    complaints = _all(registry, change.name, lambda server: refresh(server, change.number, answer_s))
    if not complaints:
        return change
    why = complaints[0]
    if not change.moves:
        raise SpringtideError(f"version {change.number} of {change.name} is production, and stays so, but {why}")
    back = "nothing else was production before"
    registry.undo(change, by=by, why=why)
    if change.before is not None:
        before = change.before
        stuck = _all(registry, change.name, lambda server: refresh(server, before, answer_s))
        back = f"version {before} is production again" + "".join(f"; and {one}" for one in stuck)
    raise SpringtideError(f"version {change.number} of {change.name} was not promoted: {why}; {back}")


def _all(registry: Registry, name: str, do: Callable[[Attendant], str | None]) -> list[str]:
    """What servers complained of; one that comes meanwhile is asked too."""
    complaints: list[str] = []
    done: set[Attendant] = set()
    while new := [one for one in registry.servers(name) if one not in done]:
        with ThreadPoolExecutor(len(new)) as threads:
            complaints += [said for said in threads.map(do, new) if said]
        done |= set(new)
    return complaints


def _asked(server: Attendant, number: int, timeout_s: float) -> dict[str, object]:
    connection = _Connection(server.admin, timeout_s)
    try:
        connection.request("POST", f"/refresh?{urlencode({'model': server.name, 'version': number})}")
        response = connection.getresponse()
        said = json.loads(response.read(_ANSWER_BYTES))
    finally:
        connection.close()
    if not isinstance(said, dict):
        raise ValueError("no JSON object")
    if response.status >= 400 and "error" not in said:
        return {"error": said.get("detail", f"status {response.status}")}
    return said


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path, self._timeout_s = path, timeout_s

    def connect(self) -> None:
        self.sock = control.connect(self._path, self._timeout_s).socket


def _wait(pid: int, timeout_s: float) -> None:
    """Until that process ends, or the time is over."""
    handle = process.watch(pid)
    if handle is not None:
        try:
            select.select([handle], [], [], timeout_s)
        finally:
            os.close(handle)


@contextmanager
def _alone(registry: Registry, name: str, by: str) -> Iterator[None]:
    """One promotion of a model at a time; the kernel drops the claim of one that dies. Refused: another is at it."""
    registry.versions(name)  # or there is no such folder
    path = registry.root / name / "promotion.lock"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            who = file.read(200).strip() or "somebody"
            raise Refused(f"a promotion of {name} is under way, by {who}; try again when it is done") from None
        file.truncate(0)
        file.write(f"{by}, process {os.getpid()}")
        file.flush()
        yield
