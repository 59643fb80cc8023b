"""The pool's operations for tests: a real store and loop on an engine of virtual time, without a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp, Receive, Scope, Send

from pool.pools import some_nodes
from springtide.engines.simulated import SimulatedEngine
from springtide.pool.access import EVERYWHERE, Identity
from springtide.pool.access import Scope as Allowed
from springtide.pool.administration import Administration
from springtide.pool.api.app import Services, make_app
from springtide.pool.api.gate import Gate, Peer, Rates
from springtide.pool.api.metrics import Metrics
from springtide.pool.api.routes import Desk
from springtide.pool.api.streams import Broadcast
from springtide.pool.database import Database
from springtide.pool.logs import Logs
from springtide.pool.loop import Loop
from springtide.pool.models import Models
from springtide.pool.office import Office
from springtide.pool.service import Jobs
from springtide.pool.sources import Sources
from springtide.pool.store import Store
from springtide.serve.registry import Registry

ROOT = Identity("root", {EVERYWHERE: Allowed.ADMIN}, trusted=True)
START_S = 1_800_000_000.0


@dataclass
class World:
    """All of it, with its clock in hand."""

    office: Office
    loop: Loop
    engine: SimulatedEngine
    folder: Path
    now_s: float = START_S
    left: list[bool] = field(default_factory=list)  # what the server was told about its end

    @property
    def jobs(self) -> Jobs:
        return Jobs(self.office)

    @property
    def administration(self) -> Administration:
        return Administration(self.office)

    @property
    def models(self) -> Models:
        return Models(self.office, self.folder / "models")

    def submit(self, *bodies: str, who: Identity = ROOT) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.jobs.submit(who, bodies, [(None, None)] * len(bodies))["jobs"]
        return rows

    def rounds(self, count: int = 3) -> None:
        """Time passes, a second a round."""
        for _ in range(count):
            self.loop.round(self.now_s)
            self.now_s += 1.0
            self.engine.advance(1.0)

    def app(self, rates: Rates | None = None, hosts: frozenset[str] = frozenset(("pool",))) -> ASGIApp:
        """The application, as a server would run it."""
        desk = Desk(self.jobs, self.administration, self.health, self.left.append, self.models)
        gate = Gate(self.office.tokens, rates or Rates(1e9, 1e9), hosts)
        metrics = Metrics(self.office, lambda: self.loop.seconds)
        logs = Logs(self.folder / "logs")
        return make_app(Services(self.office, desk, gate, logs, metrics, Broadcast(self.office.store)))

    @staticmethod
    def health() -> dict[str, Any]:
        return {
            "ok": True, "pid": 1, "version": "0", "address": "here", "since_s": START_S, "engine": "simulated",
            "limits": "", "overcommitted": None, "protected": False,
        }  # fmt: skip

    def ask(
        self, method: str, path: str, token: str | None = None, uid: int | None = 0, **what: Any
    ) -> httpx2.Response:
        """One request to the application; with a token by TCP, else from a user of this machine."""
        headers = {**what.pop("headers", {}), **({"Authorization": f"Bearer {token}"} if token else {})}
        peer = None if token or uid is None else Peer(uid, 1)
        app = _from(what.pop("app", None) or self.app(), peer)

        async def asked() -> httpx2.Response:
            async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://pool") as client:
                return await client.request(method, path, headers=headers, **what)

        return asyncio.run(asked())


def as_user(app: ASGIApp, uid: int | None) -> ASGIApp:
    """The application as it is called over its Unix socket; None: by TCP."""
    return _from(app, None if uid is None else Peer(uid, 1))


def _from(app: ASGIApp, peer: Peer | None) -> ASGIApp:
    async def called(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"peer": peer}}, receive, send)

    return called


def batch(name: str, **fields: Any) -> str:
    """A batch job as JSON."""
    return json.dumps({"kind": "batch", "name": name, "command": ["true"], **fields})


def service(name: str, **fields: Any) -> str:
    """A service as JSON."""
    return json.dumps({"kind": "service", "name": name, "command": ["serve"], "port": 8080, **fields})


def two_versions(folder: Path) -> None:
    """A model with a version in production and one before it."""
    import torch  # here, since hardly any test of the pool needs it
    from safetensors.torch import save_file

    (folder / "scale.py").write_text("import torch\n\ndef build(): return torch.nn.Linear(1, 1)\n")
    registry = Registry.open(folder / "models")
    for number in (1, 2):
        path = folder / f"{number}.safetensors"
        save_file({"weight": torch.full((1, 1), float(number)), "bias": torch.zeros(1)}, path)
        registry.add("scale", path, build="scale:build", code_from=folder)
        registry.promote("scale", number, by="ada", force=True)


@contextmanager
def a_world(folder: Path, nodes: int = 2) -> Iterator[World]:
    """An empty pool with two nodes of four cores."""
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(folder / "pool.sqlite")
    engine = SimulatedEngine(some_nodes(nodes), now_s=START_S)
    loop = Loop(Store(database), engine, folder / "sources")
    world = World(None, loop, engine, folder)  # type: ignore[arg-type]
    world.office = Office.of(Store(database), loop, Sources(folder / "sources"), lambda: world.now_s)
    try:
        yield world
    finally:
        database.close()
