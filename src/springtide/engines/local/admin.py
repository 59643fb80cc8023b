"""Asking the replicas of services how they are: GET /health and GET /metrics on the socket of each.

One thread for all of them. A replica that does not answer at first is taken to have no such socket: it is ready as soon
as it has lived a moment, and asked again now and then.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from springtide.train import control

EVERY_S = 1.0
SOON_S = 0.1  # between looks at one that is starting
ANSWER_S = 0.5
SILENT_S = 10.0  # after which one that used to answer is taken for ill
_MUTE_TRIES, _MUTE_EVERY_S = 3, 60.0
_ALIVE_S = 0.2
_ANSWER_BYTES = 1 << 20
_COUNTER = "tide_requests_total"

Key = tuple[str, str]  # job, replica


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one replica. Times are of the monotonic clock."""

    since_s: float
    tries: int = 0
    answered_s: float | None = None  # when it last said that it is well
    ill: str = ""  # why it should be started anew
    total: float | None = None  # requests that it has counted
    next_s: float = 0.0

    def ready(self, now_s: float) -> bool:
        """Whether it may be taken to do its work."""
        if self.answered_s is not None:
            return True
        return self.tries >= _MUTE_TRIES or (self.tries > 0 and now_s - self.since_s >= _ALIVE_S and not self.waiting)

    @property
    def waiting(self) -> bool:
        """Whether it may still be about to open its socket."""
        return self.tries < _MUTE_TRIES


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` None: nothing did."""

    status: int | None
    total: float | None = None


def learn(health: Health, answer: Answer, now_s: float) -> Health:
    """What is known after it was asked. Pure."""
    health = replace(health, tries=health.tries + 1, total=answer.total if answer.total is not None else health.total)
    if answer.status is not None and answer.status < 500:
        return replace(health, answered_s=now_s, next_s=now_s + EVERY_S)
    if health.answered_s is None:
        soon = SOON_S if answer.status is not None or health.waiting else _MUTE_EVERY_S
        # One that answers that it is not ready has a socket: it is never taken for mute.
        return replace(health, tries=0 if answer.status is not None else health.tries, next_s=now_s + soon)
    silent_s = now_s - health.answered_s
    if silent_s >= SILENT_S:
        told = f"answered /health with {answer.status}" if answer.status else "did not answer /health"
        return replace(health, ill=f"{told} for {silent_s:.0f} s", next_s=now_s + EVERY_S)
    return replace(health, next_s=now_s + EVERY_S)


class Prober:
    """The thread. `changed` is called from it when a replica became ready or ill."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Condition()
        self._paths: dict[Key, Path] = {}
        self._known: dict[Key, Health] = {}
        self._closed = False
        self._thread: threading.Thread | None = None

    def watch(self, paths: Mapping[Key, Path]) -> None:
        """From now on these, and no others."""
        with self._lock:
            if paths.keys() == self._paths.keys():
                return
            self._paths = dict(paths)
            now = time.monotonic()
            self._known = {key: self._known.get(key) or Health(now) for key in paths}
            if self._thread is None and paths:
                self._thread = threading.Thread(target=self._run, name="health", daemon=True)
                self._thread.start()
            self._lock.notify()

    def health(self, key: Key) -> Health | None:
        """What is known of it."""
        return self._known.get(key)

    def close(self) -> None:
        """The thread has ended."""
        with self._lock:
            self._closed = True
            self._lock.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while (due := self._due()) is not None:
            for key, path in due.items():
                answer = ask(path)
                with self._lock:
                    before = self._known.get(key)
                    if before is None:
                        continue
                    now = time.monotonic()
                    self._known[key] = after = learn(before, answer, now)
                if after.ready(now) != before.ready(now) or after.ill != before.ill:
                    self._changed()

    def _due(self) -> dict[Key, Path] | None:
        """Wait for the next that are to be asked; None: closed."""
        with self._lock:
            while not self._closed:
                now = time.monotonic()
                due = {key: self._paths[key] for key, known in self._known.items() if known.next_s <= now}
                if due:
                    return due
                next_s = min((known.next_s for known in self._known.values()), default=None)
                self._lock.wait(None if next_s is None else next_s - now)
            return None


def ask(path: Path) -> Answer:
    """One replica, within a deadline."""
    status, _ = _get(path, "/health")
    if status is None:
        return Answer(None)
    found, text = _get(path, "/metrics")
    return Answer(status, requests(text) if found == 200 else None)


def requests(text: str) -> float | None:
    """The requests that a page of metrics counts, over all labels; None: it counts none."""
    found = None
    for line in text.splitlines():
        if line.startswith(_COUNTER) and line[len(_COUNTER) :][:1] in ("{", " "):
            with contextlib.suppress(ValueError, IndexError):
                found = (found or 0.0) + float(line.rpartition("}")[2].removeprefix(_COUNTER).split()[0])
    return found


def _get(path: Path, what: str) -> tuple[int | None, str]:
    until = time.monotonic() + ANSWER_S
    try:
        caller = control.connect(path, 0.0).socket
    except OSError:
        return None, ""
    with caller:
        try:
            caller.settimeout(ANSWER_S)
            caller.sendall(f"GET {what} HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n".encode())
            text = _read(caller, until)
            head, _, body = text.partition("\r\n\r\n")
            return int(head.split()[1]), body
        except (OSError, ValueError, IndexError):
            return None, ""


def _read(caller: socket.socket, until_s: float) -> str:
    found = b""
    while len(found) < _ANSWER_BYTES:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        caller.settimeout(left_s)
        block = caller.recv(1 << 16)
        if not block:
            break
        found += block
    return found.decode(errors="replace")
