"""Model servers for tests: real processes with their registry, and the application alone, called without a socket."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

import running
from serve import a_registry
from springtide.serve.registry import Registry
from springtide.serve.server.app import App, House
from springtide.serve.server.feedback import Feedback
from springtide.serve.server.journal import Journal
from springtide.serve.server.loaded import Loaded
from springtide.serve.server.metrics import Metrics
from springtide.serve.server.model import Model, Serving
from springtide.serve.server.queue import Limits

T = TypeVar("T")
Reply = tuple[int, dict[str, str], bytes]


# --- the application alone


class Scale(torch.nn.Module):
    """y = scale * x"""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def served(
    *modules: torch.nn.Module, name: str = "scale", do: Callable[[App], Awaitable[T]], log: str | None = None,
    limits: Limits | None = None, rollout: tuple[float, bool] = (0.0, False), **words: Any,
) -> T:  # fmt: skip
    """Calls `do` with an application that serves the modules as versions 1, 2... of one model; the last is production.

    `rollout`: the share of a canary, version 1, and whether version 1 is a shadow.
    """

    async def run() -> T:
        metrics = Metrics()
        model = Model(name, None, limits or Limits(), metrics)  # type: ignore[arg-type]  # nothing is promoted here
        loaded = [Loaded(name, number, module.eval()) for number, module in enumerate(modules, 1)]
        share, shadow = rollout
        first = loaded[0]
        model.serving = Serving(loaded[-1], first if share else None, share, first if shadow else None)
        house = House({name: model}, metrics, **words)
        if log is not None:
            house.journal = Journal(log, metrics)
            house.feedback = Feedback(house.journal, metrics)
        try:
            return await do(App(house))
        finally:
            model.queue.close()
            if house.journal is not None:
                await asyncio.to_thread(house.journal.close)

    return asyncio.run(run())


async def call(
    app: Any, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, parts: int = 1,
    state: Mapping[str, Any] | None = None,
) -> Reply:  # fmt: skip
    """One request. `parts`: in how many pieces the body comes."""
    step = max(1, -(-len(body) // parts))
    pieces = [body[at : at + step] for at in range(0, len(body), step)] or [b""]
    said: list[Any] = []

    async def receive() -> Any:
        if pieces:
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        said.append(message)

    sent = [(key.lower().encode(), value.encode("latin-1")) for key, value in (headers or {}).items()]
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "headers": sent,
             "state": dict(state or {})}  # fmt: skip
    await app(scope, receive, send)
    found = {key.decode(): value.decode() for key, value in said[0]["headers"]}
    return said[0]["status"], found, b"".join(one["body"] for one in said[1:])


def tensor(data: list[Any], shape: list[int], name: str = "x", datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": data}


def infer(*inputs: dict[str, Any], **more: Any) -> bytes:
    """A body of the protocol."""
    return json.dumps({"inputs": inputs, **more}).encode()


# --- real processes


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Server:
    """One `tide serve`; its registry lies in `home`/models."""

    home: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None

    def start(self, *words: object, models: tuple[str, ...] = ("scale",), wait: str = "/v2/health/ready") -> Server:
        command = [str(running.TIDE), "serve", *models, "--port", str(self.port), *map(str, words)]
        self.process = subprocess.Popen(
            command, env=running.environment(self.home), stdout=subprocess.DEVNULL, text=True,
            stderr=(self.home / f"{self.port}.log").open("w"), cwd=self.home,
        )  # fmt: skip
        running.wait_until(lambda: self.process.poll() is not None or self.answers(wait), f"{self.log} it answers")  # type: ignore[union-attr]
        assert self.process.poll() is None, self.log
        return self

    @property
    def log(self) -> str:
        return (self.home / f"{self.port}.log").read_text()

    def answers(self, path: str = "/v2/health/ready") -> bool:
        try:
            return self.call("GET", path)[0] == 200
        except OSError:
            return False

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=running.HANGS_SECONDS)
        try:
            sent = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method, path, body or None, sent)
            response = connection.getresponse()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
        finally:
            connection.close()

    def ask(self, value: float, model: str = "scale") -> tuple[int, float]:
        """The version that answered, and what it said."""
        status, _, body = self.call("POST", f"/v2/models/{model}/infer", infer(tensor([value], [1, 1])))
        assert status == 200, body
        said = json.loads(body)
        return int(said["model_version"]), said["outputs"][0]["data"][0]

    def metric(self, name: str) -> float:
        """The sum over all labels that a line's beginning leaves open."""
        page = self.call("GET", "/metrics")[2].decode()
        return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(name))

    def tide(self, *words: object) -> None:
        done = running.tide(*words, home=self.home)
        assert done.returncode == 0, done.stdout + done.stderr

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """How it ended."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(running.HANGS_SECONDS)


@contextlib.contextmanager
def a_server(home: Path, *words: object, versions: int = 3, promote: int | None = 1, **more: Any) -> Iterator[Server]:
    """A server of `scale`, of which version k multiplies by k."""
    registry = Registry.open(home / "models")
    with a_registry.unchecked():
        for number in range(1, versions + 1):
            a_registry.scale(registry, home, float(number))
    if promote is not None:
        registry.promote("scale", promote, by="test", force=True)
    server = Server(home)
    try:
        yield server.start(*words, **more)
    finally:
        if server.process is not None and server.process.poll() is None:
            server.process.kill()
            server.process.wait()
        for path in (home / "models" / "servers").glob("*.sock"):
            path.unlink()


def until_promoted(server: Server, number: int) -> None:
    running.wait_until(lambda: server.ask(1.0)[0] == number, f"version {number} answers")


def now_s() -> float:
    return time.monotonic()


PYTHON = sys.executable
