"""Asking replicas how they are: GET /health and GET /metrics on the socket of each.

Of services, and of streams that follow their lag. One thread asks all of them. A replica that does not answer at first
is taken to have no such socket: it is ready as soon as it has lived a moment, and asked again now and then.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from springtide.engines.local.load import STREAM_FIGURES, Processing
from springtide.train import control

EVERY_S = 1.0
SILENT_S = 10.0  # after which one that used to answer is taken for ill
DEADLINE_S = 5.0  # a machine that is full answers slowly, and is not ill for it
_MUTE_S = 0.7  # one that has said nothing for so long is taken to have no such socket, until it speaks
_LATE_S, _MUTE_EVERY_S = 30.0, 60.0  # hardly anybody opens it later than that, so he is asked less often
_SOON_S = 0.1
_ANSWER_BYTES = 1 << 20
_COUNTER = "tide_requests_total"
_STREAM = "tide_stream_"

Key = tuple[str, str]  # job, replica


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one replica. Times are of the monotonic clock."""

    since_s: float
    speaks: bool = False  # it has answered something
    well_s: float | None = None  # when it last said that it is well
    ill: str = ""  # why it should be started anew
    total: float | None = None  # requests that it has counted
    stream: Processing | None = None  # what it tells of a stream that it processes
    next_s: float = 0.0

    def ready(self, now_s: float) -> bool:
        """Whether it may be taken to do its work."""
        return self.well_s is not None or (not self.speaks and now_s >= self.mute_s)

    @property
    def mute_s(self) -> float:
        """When one that has said nothing is taken to have no such socket."""
        return self.since_s + _MUTE_S


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` None: nothing did."""

    status: int | None = None
    total: float | None = None
    stream: Processing | None = None


def learn(health: Health, answer: Answer, now_s: float) -> Health:
    """What is known after it was asked. Pure."""
    total = health.total if answer.total is None else answer.total
    speaks = health.speaks or answer.status is not None
    stream = health.stream if answer.stream is None else answer.stream
    health = replace(health, total=total, stream=stream, speaks=speaks, next_s=now_s + EVERY_S)
    if answer.status is not None and answer.status < 500:
        return replace(health, well_s=now_s)
    if health.well_s is None:
        return replace(health, next_s=now_s + _again_s(health, now_s))
    if now_s - health.well_s >= SILENT_S:
        told = f"answered /health with {answer.status}" if answer.status else "did not answer /health"
        return replace(health, ill=f"{told} for {now_s - health.well_s:.0f} s")
    return health


def _again_s(health: Health, now_s: float) -> float:
    """When one that was never well is asked again: soon while it may be starting."""
    late = now_s - health.since_s >= _LATE_S
    if health.speaks:
        return EVERY_S if late else _SOON_S
    return _MUTE_EVERY_S if late else EVERY_S


def requests(text: str) -> float | None:
    """The requests that a page of metrics counts, over all labels; None: it counts none."""
    return _sum(text, _COUNTER)


def processing(text: str) -> Processing | None:
    """What a page of metrics tells of a stream; None: nothing, or not all."""
    figures = [_sum(text, f"{_STREAM}{name}") for name in STREAM_FIGURES]
    known = [one for one in figures if one is not None]
    return Processing(*known) if len(known) == len(figures) else None


def _sum(text: str, name: str) -> float | None:
    """Over all labels."""
    found = None
    for line in text.splitlines():
        if line.startswith(name) and line[len(name) :][:1] in ("{", " "):
            with contextlib.suppress(ValueError, IndexError):
                found = (found or 0.0) + float(line.rpartition("}")[2].removeprefix(name).split()[0])
    return found


class Call:
    """One request to one replica, without waiting. `done` holds status and body once it is answered."""

    def __init__(self, path: Path, what: str) -> None:
        self.socket = control.connect(path, 0.0).socket
        self._found = b""
        try:
            self.socket.send(f"GET {what} HTTP/1.1\r\nHost: replica\r\nConnection: close\r\n\r\n".encode())
        except OSError:
            self.socket.close()
            raise

    def read(self) -> tuple[int, str] | None:
        """After it became readable. None: more is to come. OSError or ValueError: it is no answer."""
        block = self.socket.recv(1 << 16)
        self._found += block
        if len(self._found) > _ANSWER_BYTES:
            raise ValueError("too long")
        head, _, body = self._found.partition(b"\r\n\r\n")
        if block and not _whole(head, body):
            return None
        status = head.split()[1] if len(head.split()) > 1 else b""
        return int(status), body.decode(errors="replace")


def _whole(head: bytes, body: bytes) -> bool:
    """Whether all is there that the answer announced; without a length it ends with the connection."""
    for line in head.splitlines()[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length" and value.strip().isdigit():
            return len(body) >= int(value)
    return False


@dataclass
class _Asked:
    """A replica that is being asked: first how it is, then what it counts."""

    key: Key
    call: Call
    until_s: float
    status: int | None = None


class Prober:
    """The thread. `changed` is called from it when a replica became ready or ill."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._lock = threading.Lock()
        self._paths: dict[Key, Path] = {}
        self._known: dict[Key, Health] = {}
        self._asked: dict[Key, _Asked] = {}
        self._unready: set[Key] = set()  # who has said nothing yet
        self._selector = selectors.DefaultSelector()
        self._closed = False
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def watch(self, paths: Mapping[Key, Path], speaking: Collection[Key] = ()) -> None:
        """From now on these, and no others. `speaking`: known to have such a socket, however late they answer."""
        with self._lock:
            if paths.keys() == self._paths.keys():
                return
            now = time.monotonic()
            self._paths = dict(paths)
            self._known = {key: self._known.get(key) or Health(now, key in speaking) for key in paths}
        self._wake()

    def health(self, key: Key) -> Health | None:
        """What is known of it."""
        return self._known.get(key)

    def close(self) -> None:
        """The thread has ended."""
        self._closed = True
        self._wake()
        self._thread.join()
        for asked in self._asked.values():
            asked.call.socket.close()
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(self._timeout_s()):
                if key.data is None:
                    os.read(self._wake_read, 4096)
                else:
                    self._readable(key.data)
            now = time.monotonic()
            for asked in [asked for asked in self._asked.values() if asked.until_s <= now]:
                self._finish(asked, Answer(asked.status))
            self._begin(now)
            self._settle(now)

    def _timeout_s(self) -> float | None:
        with self._lock:
            due = [known.next_s for key, known in self._known.items() if key not in self._asked]
            due += [known.mute_s for key, known in self._known.items() if key in self._unready]
        due += [asked.until_s for asked in self._asked.values()]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _settle(self, now: float) -> None:
        """Say who became ready by having said nothing for long enough."""
        with self._lock:
            unready = {key for key, known in self._known.items() if not known.ready(now) and not known.speaks}
        if self._unready - unready:
            self._changed()
        self._unready = unready

    def _begin(self, now: float) -> None:
        with self._lock:
            due = [key for key, known in self._known.items() if known.next_s <= now and key not in self._asked]
        for key in due:
            self._ask(key, "/health", now + DEADLINE_S, None)

    def _ask(self, key: Key, what: str, until_s: float, status: int | None) -> None:
        try:
            call = Call(self._paths[key], what)
        except (OSError, KeyError):
            self._learn(key, Answer(status))
            return
        asked = _Asked(key, call, until_s, status)
        self._asked[key] = asked
        self._selector.register(call.socket, selectors.EVENT_READ, asked)

    def _readable(self, asked: _Asked) -> None:
        try:
            answer = asked.call.read()
        except BlockingIOError:
            return
        except (OSError, ValueError):
            self._finish(asked, Answer(asked.status))
            return
        if answer is None:
            return
        status, body = answer
        if asked.status is None:
            self._drop(asked)
            self._ask(asked.key, "/metrics", asked.until_s, status)
        else:
            told = body if status == 200 else ""
            self._finish(asked, Answer(asked.status, requests(told), processing(told)))

    def _drop(self, asked: _Asked) -> None:
        self._selector.unregister(asked.call.socket)
        asked.call.socket.close()
        self._asked.pop(asked.key, None)

    def _finish(self, asked: _Asked, answer: Answer) -> None:
        self._drop(asked)
        self._learn(asked.key, answer)

    def _learn(self, key: Key, answer: Answer) -> None:
        with self._lock:
            before = self._known.get(key)
            if before is None:
                return
            now = time.monotonic()
            self._known[key] = after = learn(before, answer, now)
        if after.ready(now) != before.ready(now) or after.ill != before.ill:
            self._changed()
