"""One server process: its sockets, its models, its beginning and its end.

It attends at the registry before it looks which version is in production, so no promotion is missed; it listens once
that version is warm; and when it is told to end it answers what was asked, and tells its callers to go elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from springtide.serve.registry import Registry
from springtide.serve.server.app import Admin, App, House
from springtide.serve.server.feedback import Feedback
from springtide.serve.server.journal import Journal, redaction
from springtide.serve.server.metrics import Metrics
from springtide.serve.server.model import Model
from springtide.serve.server.queue import Limits
from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.train import control, process

_log = logging.getLogger("springtide.serve")
_FIRST = 3  # systemd's convention: handed sockets begin there
_BACKLOG = 2048
_HEAD_S = 30.0  # within which the first request has begun
_IDLE_S = 75  # between two requests of a connection
_LEAVE_S = 0.5  # for which callers are told that the connection ends, before those that say nothing are cut off
_ANSWER_S = 25  # for which answers that are under way may go on


@dataclass(frozen=True, slots=True)
class Options:
    """What a server was told."""

    models: tuple[str, ...]
    registry: Path | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    shared_port: bool = False
    admin: Path | None = None  # of the socket that was handed over
    threads: int = 1
    limits: Limits = field(default_factory=Limits)
    most_bytes: int = 16 << 20
    requests: str | None = None
    sample: float = 1.0
    redact: str | None = None


class _Connection(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
    """Knows since when it is open; who opens one and never asks is let go."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        state: dict[str, object] = self.app_state  # type: ignore[has-type]
        self.app_state = {**state, "since_s": time.monotonic()}
        self.loop.call_later(_HEAD_S, self._still_nothing)

    def _still_nothing(self) -> None:
        if self.cycle is None:
            self.transport.close()


class _Listener(uvicorn.Server):
    """Signals are the process's own matter."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _listener(app: ASGIApp) -> _Listener:
    return _Listener(
        uvicorn.Config(
            app, http=_Connection, ws="none", lifespan="off", loop="asyncio", proxy_headers=False, server_header=False,
            log_config=None, access_log=False, backlog=_BACKLOG, timeout_graceful_shutdown=_ANSWER_S,
            timeout_keep_alive=_IDLE_S,
        )
    )  # fmt: skip


async def serve(options: Options) -> None:
    """Until it is told to end. Refused: the port is taken. UserError: something that was named is not there."""
    registry = Registry.open(options.registry)
    with contextlib.ExitStack() as closing:
        main, admin, path = _sockets(options, registry.root, closing)
        house = _house(options, registry)
        closing.callback(_close, house)
        await _Running(options, registry, house, path).run(main, admin)


class _Running:
    def __init__(self, options: Options, registry: Registry, house: House, admin: Path) -> None:
        self._options, self._registry, self._house, self._path = options, registry, house, admin
        self._ending = asyncio.Event()

    async def run(self, main: socket.socket, admin: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ending.set)
        asked, told = _listener(App(self._house)), _listener(Admin(self._house))
        tasks = [asyncio.create_task(told.serve([admin]))]
        ending = asyncio.create_task(self._ending.wait())
        try:
            begin = asyncio.create_task(self._begin())
            await asyncio.wait([begin, ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            if begin.done():
                begin.result()
                tasks.append(asyncio.create_task(asked.serve([main])))
                self._say()
                await asyncio.wait([ending, *tasks], return_when=asyncio.FIRST_COMPLETED)
            begin.cancel()
        finally:
            await self._leave()
            await _drain(self._house, asked)
            asked.should_exit = told.should_exit = True
            await asyncio.gather(*tasks)

    async def _begin(self) -> None:
        """Attend, then look: whoever promotes afterwards tells this process."""
        started = process.started(os.getpid()) or 0
        for name in self._house.models:
            await asyncio.to_thread(self._registry.attend, name, self._path, os.getpid(), started)
        for model in self._house.models.values():
            try:
                await model.refresh()
            except SpringtideError as error:
                _log.error("%s", error)
            if model.serving.production is None:
                _log.warning("%s", model.why_not)

    async def _leave(self) -> None:
        """No promotion waits for this process any more."""
        for name in self._house.models:
            with contextlib.suppress(SpringtideError):
                await asyncio.to_thread(self._registry.leave, name, self._path)

    def _say(self) -> None:
        for name, model in self._house.models.items():
            version = model.serving.production
            where = f"port {self._options.port}" if self._options.port else "the socket that was handed over"
            _log.info("%s answers at %s with version %s", name, where, version.number if version else "none")


async def _drain(house: House, asked: _Listener) -> None:
    """Nobody new is let in; who is there is told to leave with his answer."""
    house.draining = True
    for server in getattr(asked, "servers", []):
        server.close()
    loop = asyncio.get_running_loop()
    until_s = loop.time() + _LEAVE_S
    while asked.server_state.connections and loop.time() < until_s:
        await asyncio.sleep(0.01)  # connections tell nobody when the last of them ends


def _house(options: Options, registry: Registry) -> House:
    metrics = Metrics()
    models = {name: Model(name, registry, options.limits, metrics, options.threads) for name in options.models}
    if options.requests is None:
        return House(models, metrics, options.most_bytes)
    redact = redaction(options.redact) if options.redact else None
    journal = Journal(options.requests, metrics, sample=options.sample, redact=redact)
    return House(models, metrics, options.most_bytes, journal, Feedback(journal, metrics))


def _close(house: House) -> None:
    if house.journal is not None:
        house.journal.close()
    for model in house.models.values():
        model.queue.close()


def _sockets(
    options: Options, root: Path, closing: contextlib.ExitStack
) -> tuple[socket.socket, socket.socket, Path]:  # fmt: skip
    """The main one, the admin one, and where the latter is found: handed over (LISTEN_FDS), or bound here."""
    handed = _handed()
    main = handed.get("main")
    if main is None:
        if options.port is None:
            raise UserError("--port: no socket was handed over; write the port to listen on, for example --port 8080")
        main = _bound(options)
    if "admin" in handed and options.admin is not None:
        return main, handed["admin"], options.admin
    folder = root / "servers"
    folder.mkdir(mode=0o700, exist_ok=True)
    _sweep(folder)
    path = folder / f"{os.getpid()}.sock"
    admin = control.listen(path)
    closing.callback(path.unlink, missing_ok=True)
    return main, admin, path


def _handed() -> dict[str, socket.socket]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return {name: socket.socket(fileno=_FIRST + at) for at, name in enumerate(names[:count])}


def _bound(options: Options) -> socket.socket:
    assert options.port is not None
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(options.host, options.port, type=socket.SOCK_STREAM)[0]
    except OSError:
        raise UserError(f'--host: no address is called "{options.host}"') from None
    bound = socket.socket(
        family, kind, protocol
    )  # asyncio sends small answers at once only where it knows that it is TCP
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if options.shared_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind(address)
        bound.listen(_BACKLOG)
    except OSError as error:
        bound.close()
        why = (error.strerror or str(error)).lower()
        raise Refused(
            f"port {options.port} of {options.host} cannot be listened on: {why}; choose another with --port"
        ) from None
    return bound


def _sweep(folder: Path) -> None:
    """Sockets of servers that were killed go."""
    for path in folder.glob("*.sock"):
        if path.stem.isdecimal() and not Path(f"/proc/{path.stem}").exists():
            path.unlink(missing_ok=True)
