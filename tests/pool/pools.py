"""A whole pool for tests: the real store, loop and server, on an engine whose time keeps pace with the clock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from running import HANGS_SECONDS, wait_until
from springtide import Client
from springtide.engines.simulated import SimulatedEngine
from springtide.pool.listeners import listen_at
from springtide.pool.server import Options, serve
from springtide.spec.errors import SpringtideError, Unreachable
from springtide.spec.resources import Resources
from springtide.spec.sharing import Node

GIB = 2.0**30


def some_nodes(count: int = 2, cpu: float = 4.0) -> tuple[Node, ...]:
    """Nodes alike."""
    has = Resources(cpu=cpu, memory=8 * GIB)
    return tuple(Node(name=f"n{number}", resources=has) for number in range(count))


@dataclass(slots=True)
class Keeping(SimulatedEngine):
    """Its clock is the machine's; `wait` really waits."""

    _woken: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        SimulatedEngine.__post_init__(self)
        self.now_s = time.time()

    def observe(self):  # type: ignore[no-untyped-def]
        self.advance(max(0.0, time.time() - self.now_s))
        return SimulatedEngine.observe(self)

    def wait(self, timeout_s: float) -> None:
        self._woken.wait(timeout_s)
        self._woken.clear()

    def wake(self) -> None:
        self._woken.set()


@dataclass
class PoolProcess:
    """A pool server in a process of its own."""

    home: Path
    process: subprocess.Popen[str]

    @property
    def socket(self) -> Path:
        return self.home / "pool" / "pool.sock"

    def client(self, token: str | None = None) -> Client:
        return Client(self.socket, token)

    def kill(self) -> None:
        """As power does."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(HANGS_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError("the server does not end") from None


@contextmanager
def a_pool(
    home: Path, nodes: int = 2, listen: str | tuple[str, str, str] = "", environment: dict[str, str] | None = None
) -> Iterator[PoolProcess]:
    """A server that answers, until the block is left."""
    words = [sys.executable, __file__, str(nodes), *([listen] if isinstance(listen, str) else listen)]
    path = os.pathsep.join(map(str, (Path(__file__).parents[1], Path(__file__).parents[2])))
    process = subprocess.Popen(
        words, env=os.environ | {"TIDE_HOME": str(home), "PYTHONPATH": path} | (environment or {}),
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    pool = PoolProcess(home, process)
    try:
        wait_until(lambda: process.poll() is not None or _answers(pool), "the pool answers")
        assert process.poll() is None, process.stderr and process.stderr.read()
        yield pool
    finally:
        pool.end()
        assert process.stderr is not None
        process.stderr.close()


def _answers(pool: PoolProcess) -> bool:
    try:
        with pool.client() as client:
            return bool(client.health()["ok"])
    except Unreachable:
        return False


def _serve(nodes: int, listen: str, *files: str) -> int:
    try:
        at = listen_at(listen, *map(Path, files)) if listen else None
        serve(Options(lambda folder: Keeping(some_nodes(nodes)), "simulated", at))
    except SpringtideError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_serve(int(sys.argv[1]), *sys.argv[2:]))
