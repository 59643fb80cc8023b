"""The pool server: one process that holds the store, the loop and the API. `python -m springtide.pool.server`.

It may be killed at any instant: what runs goes on, and the next server finds it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import logging.handlers
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from springtide import __version__
from springtide.engines.engine import Engine
from springtide.pool import listeners
from springtide.pool.administration import Administration
from springtide.pool.api import gate
from springtide.pool.api.app import Services, make_app
from springtide.pool.api.metrics import Metrics
from springtide.pool.api.routes import Desk
from springtide.pool.api.streams import Broadcast
from springtide.pool.database import Database
from springtide.pool.listeners import Listen, listen_at
from springtide.pool.logs import Logs
from springtide.pool.loop import Loop
from springtide.pool.models import Models
from springtide.pool.office import Office
from springtide.pool.service import Jobs
from springtide.pool.sources import Sources
from springtide.pool.store import Store
from springtide.pool.vault import Vault
from springtide.spec import home
from springtide.spec.checks import check_pool
from springtide.spec.errors import Refused, SpringtideError, UserError
from springtide.spec.files import pool as read_pool
from springtide.spec.files import to_data
from springtide.spec.sharing import Pool
from springtide.train import process

LOG_BYTES, LOGS_KEPT = 5_000_000, 3
SWEEP_S = 3600.0
_log = logging.getLogger("springtide.pool")


@dataclass(frozen=True, slots=True)
class Options:
    """What `tide up` was told."""

    engine: Callable[[Path], Engine]  # from the pool's folder
    engine_name: str = "local"
    listen: Listen | None = None
    rules: Path | None = None  # a pool file: its teams and rules replace those that are kept
    protected: bool = False  # whether each team has a user of its own
    ready: Callable[[str], None] = field(default=lambda address: None)


def folder() -> Path:
    """Where the pool of this user keeps its things."""
    return home.home() / "pool"


def socket_path() -> Path:
    """Where the pool of this user answers."""
    return folder() / "pool.sock"


def serve(options: Options) -> None:
    """Until it is told to end. Refused: a pool runs here. SpringtideError, UserError: it cannot start."""
    try:
        _serve(options, folder())
    except OSError as error:
        raise SpringtideError(
            f"the pool cannot start: {error.filename or folder()}: {(error.strerror or str(error)).lower()}"
        ) from None


def _serve(options: Options, at: Path) -> None:
    at.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _only_one(at), contextlib.ExitStack() as closing:
        _log_to(at / "server.log")
        asked, planned = (Database(at / "pool.sqlite") for _ in range(2))
        closing.callback(asked.close)
        closing.callback(planned.close)
        sockets = [listeners.unix(at / "pool.sock")]
        closing.callback((at / "pool.sock").unlink, missing_ok=True)
        if options.listen is not None:
            sockets.append(listeners.tcp(options.listen))
        for one in sockets:
            closing.callback(one.close)
        engine = options.engine(at)
        closing.callback(engine.close)
        if options.rules is not None:
            Store(planned).configure("pool", to_data(_rules(options.rules, engine)))
        vault = Vault(planned, time.time)
        loop = Loop(Store(planned), engine, at / "sources", vault.values)
        _Server(options, at, Office.of(Store(asked), loop, Sources(at / "sources"), time.time), loop, engine).run(
            sockets
        )


class _Server:
    """The parts of one server, running."""

    def __init__(self, options: Options, at: Path, office: Office, loop: Loop, engine: Engine) -> None:
        self._options, self._at, self._office, self._loop, self._engine = options, at, office, loop, engine
        self._since_s = time.time()
        self._ending: asyncio.Event | None = None
        self._events: asyncio.AbstractEventLoop | None = None

    def run(self, sockets: list[socket.socket]) -> None:
        thread = threading.Thread(target=self._loop.run, name="loop", daemon=True)
        thread.start()
        try:
            asyncio.run(self._answer(sockets))
        finally:
            self._loop.end()
            thread.join()

    async def _answer(self, sockets: list[socket.socket]) -> None:
        self._ending, self._events = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._events.add_signal_handler(number, self._ending.set)
        listen = self._options.listen
        hosts = None if listen and listen.cert else gate.hosts(listen.host, listen.port) if listen else frozenset[str]()
        models = Models(self._office, self._at.parent / "models")
        desk = Desk(Jobs(self._office), Administration(self._office), self.health, self._down, models)
        services = Services(
            self._office, desk, gate.Gate(self._office.tokens, gate.Rates(), hosts), Logs(self._at / "logs"),
            Metrics(self._office, lambda: self._loop.seconds), Broadcast(self._office.store),
        )  # fmt: skip
        app = make_app(services)
        # Only one of them starts and ends what runs beside the application.
        running = [listeners.listener(app, lifespan="on")]
        running += [listeners.listener(app, listen, lifespan="off")] if listen is not None else []
        tasks = [asyncio.create_task(one.serve([its])) for one, its in zip(running, sockets, strict=True)]
        self._tell_where()
        sweep = asyncio.create_task(self._sweep())
        self._options.ready(self.address)
        await asyncio.wait([asyncio.create_task(self._ending.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
        sweep.cancel()
        for one in running:
            one.should_exit = True
        await asyncio.gather(*tasks)
        (self._at / "server.json").unlink(missing_ok=True)

    @property
    def address(self) -> str:
        return str(self._at / "pool.sock")

    def health(self) -> dict[str, Any]:
        """Who this server is."""
        listen = self._options.listen
        return {
            "ok": True,
            "pid": os.getpid(),
            "version": __version__,
            "address": listen.address if listen else self.address,
            "since_s": self._since_s,
            "engine": self._options.engine_name,
            "limits": str(getattr(self._engine, "sentence", "")),
            "overcommitted": self._engine.overcommitted(),
            "protected": self._options.protected,
        }

    def _down(self, keep: bool) -> None:
        """In a thread of its own: the answer does not wait until all has stopped."""
        threading.Thread(target=self._stop_all, args=(keep,), name="down", daemon=True).start()

    def _stop_all(self, keep: bool) -> None:
        if not self._loop.down(keep):
            _log.error("not all jobs ended in time; the next server goes on with what is left of them")
        assert self._events is not None and self._ending is not None
        self._events.call_soon_threadsafe(self._ending.set)

    def _tell_where(self) -> None:
        said = {"pid": os.getpid(), "started": process.started(os.getpid()), "address": self.address}
        coming = self._at / "server.json.new"
        coming.write_text(json.dumps(said))
        coming.replace(self._at / "server.json")

    async def _sweep(self) -> None:
        """Folders that no job needs go, in time."""
        while True:
            try:
                named = await asyncio.to_thread(self._office.store.sources_named, self._office.clock())
                await asyncio.to_thread(self._office.sources.sweep, named)
            except (SpringtideError, OSError) as error:
                _log.error("%s", error)
            await asyncio.sleep(SWEEP_S)


@contextlib.contextmanager
def _only_one(at: Path) -> Iterator[None]:
    """The kernel lets go of the lock when its process ends, however that comes. Refused: a pool runs here."""
    descriptor = os.open(at / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(f"a pool runs here already ({_who(at)}): `tide down` ends it") from None
        yield
    finally:
        os.close(descriptor)


def _who(at: Path) -> str:
    try:
        said = json.loads((at / "server.json").read_text())
        since = datetime.fromtimestamp((at / "server.json").stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        return f"pid {said['pid']}, since {since}"
    except (OSError, ValueError, KeyError):
        return "it is starting"


def _log_to(path: Path) -> None:
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOGS_KEPT)
    path.chmod(0o600)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    logging.raiseExceptions = False  # a log that cannot be written is no reason to write elsewhere


def _rules(path: Path, engine: Engine) -> Pool:
    """Teams and rules of a pool file; the nodes are the engine's, whatever it says. UserError."""
    rules = replace(read_pool(path, nodes_elsewhere=True), nodes=tuple(engine.nodes()))
    check_pool(rules, str(path))
    return replace(rules, nodes=())


def _local(virtual: str | None, user_per_team: bool, at: Path) -> Engine:
    from springtide.engines.local import people
    from springtide.engines.local.engine import LocalEngine

    if user_per_team and (refusal := people.refusal(Path(sys.executable), [at])):
        raise UserError(refusal)
    return LocalEngine(at.parent, virtual, people.People(at) if user_per_team else None)


def main(words: list[str] | None = None) -> int:
    """The process that `tide up` starts. Its sentence goes to standard error, its exit code says which kind it was."""
    parser = argparse.ArgumentParser(prog="python -m springtide.pool.server")
    parser.add_argument("--virtual")
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--listen")
    parser.add_argument("--tls-cert", type=Path)
    parser.add_argument("--tls-key", type=Path)
    parser.add_argument("--user-per-team", action="store_true")
    said = parser.parse_args(words)
    try:
        listen = listen_at(said.listen, said.tls_cert, said.tls_key) if said.listen else None
        serve(
            Options(
                partial(_local, said.virtual, said.user_per_team),
                listen=listen,
                rules=said.pool,
                protected=said.user_per_team,
            )
        )
    except SpringtideError as error:
        print(f"tide: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
