"""A real pool to be shared: `tide up -d` in a home of its own, jobs as real processes, and clients that load a service.

What a test tells the pool goes through `tide` or `springtide.Client`, as users do it; what it asks is what they see.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import running
from springtide import Client
from springtide.spec import Bid, Job, Kind, Load, Priority, Range, Resources, Restart
from springtide.spec.errors import SpringtideError

MEMORY_BYTES = 512 * 2**20
PATIENCE_S = 60.0  # of a request
Row = dict[str, Any]

SERVER = '''"""Counts its requests; answers with its process id. One request at a time: a blow costs one at most."""
import hashlib, os, signal, socket, threading
stop, served = threading.Event(), 0

def answer(connection, body):
    connection.settimeout(30)
    with connection:
        connection.recv(65536)
        head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
        connection.sendall(head + body)

def serve(descriptor, body):
    listening = socket.socket(fileno=descriptor)
    listening.settimeout(0.1)
    while not stop.is_set():
        try:
            answer(listening.accept()[0], body())
        except (BlockingIOError, TimeoutError, ConnectionError):
            pass

def page():
    global served
    served += 1
    hashlib.pbkdf2_hmac("sha256", b"word", b"salt", int(os.environ.get("ROUNDS", 1)))
    return b"%d" % os.getpid()

signal.signal(signal.SIGTERM, lambda *_: stop.set())
threading.Thread(target=serve, args=(4, lambda: b"tide_requests_total %d\\n" % served), daemon=True).start()
serve(3, page)
'''

TRAIN = '''"""A small network with dropout. It takes its time, until it is told to hurry."""
import argparse, pathlib, time
import torch
from torch import nn
from torch.nn import functional
from springtide import train

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--pause", type=float, default=0.0)
parser.add_argument("--hurry", type=pathlib.Path)
given = parser.parse_args()
torch.manual_seed(1)
x = torch.randn(512, 32)
data = torch.utils.data.TensorDataset(x, (x.sum(1) > 0).long())
model = nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 2))
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
run = train.Run(model, optimizer, data, batch_size=96, microbatches=12, steps=given.steps, seed=5)
for inputs, wanted in run:
    if given.hurry is not None and not given.hurry.exists():
        time.sleep(given.pause)
    run.backward(functional.cross_entropy(model(inputs), wanted))
'''


class World:
    """One pool. Its things lie in `home`, what is submitted in `folder`."""

    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, home.parent / "submitted"
        self.folder.mkdir(exist_ok=True)
        (self.folder / "server.py").write_text(SERVER)
        (self.folder / "train_it.py").write_text(TRAIN)
        self._words: tuple[object, ...] = ()

    # --- the pool

    def up(self, nodes: str, rules: str = "") -> World:
        """`rules`: a pool file."""
        self._words = ("--virtual", nodes)
        if rules:
            (self.home / "rules.yaml").write_text(rules)
            self._words += ("--pool", self.home / "rules.yaml")
        return self.up_again()

    def up_again(self) -> World:
        """With the same words as before."""
        done = self.tide("up", "-d", *self._words)
        assert done.returncode == 0, f"{done.stdout}{done.stderr}{self.log()}"
        return self

    def tide(self, *words: object) -> Any:
        return running.tide(*words, home=self.home)

    @cached_property
    def client(self) -> Client:
        return Client(self.home / "pool" / "pool.sock")

    def end(self) -> None:
        """All stops. AssertionError: something is left."""
        with contextlib.suppress(SpringtideError, AssertionError):
            for row in self.client.jobs(state="live"):
                self.client.cancel(row["name"])
            self.until(lambda: not self.client.jobs(state="live"), "all is cancelled")
        self.client.close()
        self.tide("down")
        left, groups = self.processes(), self.groups()
        running.strike(list(left))
        assert not left, f"left behind: {left}"
        assert not groups, f"groups left behind: {groups}"

    def processes(self) -> dict[int, str]:
        """Living processes of the pool and of what it runs: pid -> command line."""
        found, mark = {}, os.fsencode(self.home)
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and int(entry.name) != os.getpid():
                    command = (entry / "cmdline").read_bytes()
                    if mark in (entry / "environ").read_bytes() or mark in command:
                        found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
        return found | {pid: f"shim of {job}" for job, pid in self.shims().items()}

    def shims(self) -> dict[str, int]:
        """Job id -> process id of its shim, of those that live."""
        kept = {path.parent.name: path for path in (self.home / "pool" / "jobs").glob("*/shim.json")}
        return {job: pid for job, path in kept.items() if (pid := running.kept(path))}

    def groups(self) -> list[str]:
        """Control groups of the pool."""
        name = f"{os.getuid()}-{hashlib.sha256(str(self.home / 'pool').encode()).hexdigest()[:8]}"
        return [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/springtide/{name}/*/*")]

    def log(self) -> str:
        """For a failed test."""
        return "\n".join(path.read_text(errors="replace")[-3000:] for path in (self.home / "pool").glob("*.log"))

    # --- jobs

    def submit(self, *jobs: Job) -> None:
        self.client.submit(list(jobs))

    def row(self, name: str) -> Row:
        """The newest job of that name, as `tide ps --json` has it; empty: there is none."""
        return next(iter(self.client.jobs(name=name, limit=1)), {})

    def planned(self, *names: str) -> tuple[int, ...]:
        """Replicas that each is to have, by one look."""
        rows = {row["name"]: row["planned"] for row in self.client.jobs(state="live")}
        return tuple(rows.get(name, 0) for name in names)

    def pids(self, name: str) -> list[int]:
        return [worker["pid"] for worker in self.row(name).get("workers", ())]

    def events(self, job: str | None = None, *kinds: str) -> list[Row]:
        """Oldest first."""
        found = list(self.client.events(job=job, after=0, limit=1000))
        return [event for event in found if not kinds or event["kind"] in kinds]

    def told(self, job: str, *kinds: str) -> str:
        """All sentences about a job."""
        return "\n".join(event["sentence"] for event in self.events(job, *kinds))

    def until(self, true: Callable[[], object], what: str) -> None:
        """AssertionError: it never came about; with what the pool says."""
        try:
            running.wait_until(lambda: bool(true()), what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.story()}") from None

    def until_row(self, name: str, **wanted: object) -> Row:
        self.until(lambda: wanted.items() <= self.row(name).items(), f"{name} {wanted}")
        return self.row(name)

    def hurry(self) -> None:
        """Training pauses no more between steps."""
        (self.home / "hurry").touch()

    def digest(self, name: str) -> str:
        """Of training, at its end."""
        row = self.until_row(name, state="done")
        return str(row["digest"])

    def story(self) -> str:
        """For a failed test."""
        with contextlib.suppress(SpringtideError):
            rows = [
                f"{row['name']}: {row['state']} {row['replicas']} of {row['planned']}: {row['reason']}"
                for row in self.client.jobs()
            ]
            return "\n".join(
                [*rows, *(f"{event['time_s']:.2f} {event['sentence']}" for event in self.events()[-40:]), self.log()]
            )
        return self.log()


@contextlib.contextmanager
def a_world(home: Path) -> Iterator[World]:
    """The pool is not started yet: the test says with which nodes and rules. Nothing of it may be left."""
    world = World(home)
    try:
        yield world
    finally:
        world.end()


# --- jobs that tests submit


def training(world: World, name: str, most: int, least: int = 1, steps: int = 200, **said: Any) -> Job:
    """Elastic; it takes its time until `World.hurry`."""
    given = {"resources": Resources(cpu=1, memory=MEMORY_BYTES)} | said
    arguments = ("--steps", str(steps), "--pause", "0.02", "--hurry", str(world.home / "hurry"))
    return Job(
        kind=Kind.TRAINING, name=name, replicas=Range(least, most), folder=str(world.folder),
        script=str(world.folder / "train_it.py"), args=arguments, **given,
    )  # fmt: skip


def web(world: World, port: int, most: int = 1, carries: float | None = None, name: str = "web", **said: Any) -> Job:
    """A production service; `carries`: requests per second of one replica."""
    given: dict[str, Any] = {
        "priority": Priority.PRODUCTION, "resources": Resources(cpu=1, memory=MEMORY_BYTES), "replicas": Range(1, most),
    }  # fmt: skip
    load = None if carries is None else Load(requests_per_second=carries, headroom=0.0, window_s=2.0)
    return Job(
        kind=Kind.SERVICE, name=name, folder=str(world.folder),
        command=("python", "server.py"), port=port, load=load, grace_s=10.0, **given | said,
    )  # fmt: skip


def batch(name: str, code: str = "import time; time.sleep(1000)", cpu: float = 1.0, **said: Any) -> Job:
    """Runs this Python; by default it is only there."""
    given: dict[str, Any] = {"resources": Resources(cpu=cpu, memory=MEMORY_BYTES), "grace_s": 1.0}
    return Job(kind=Kind.BATCH, name=name, command=(sys.executable, "-c", code), **given | said)


def spot(name: str, bid: float, team: str = "default", **said: Any) -> Job:
    """A batch that bids per core-hour."""
    return batch(name, priority=Priority.SPOT, bid=Bid(per_core_hour=bid), team=team, **said)


NEVER_AGAIN = Restart(policy="never")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the load


@dataclass(frozen=True)
class Answered:
    """One request. Times are unix seconds, as those of events; `pid` 0: it failed."""

    sent_s: float
    done_s: float
    pid: int
    error: str = ""

    @property
    def latency_s(self) -> float:
        return self.done_s - self.sent_s


@dataclass
class Clients:
    """Clients of a service, each with one request at a time, `rate` requests a second together."""

    port: int
    rate: float
    count: int = 4
    requests: list[Answered] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(self.count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Returns after the last answer."""
        self._ended.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Answered]:
        return [one for one in self.requests if not one.pid]

    def by(self, pid: int) -> Answered | None:
        """The first request that this process answered."""
        return next((one for one in sorted(self.requests, key=lambda one: one.done_s) if one.pid == pid), None)

    def latency_s(self, since_s: float, until_s: float = float("inf")) -> float:
        """Median of requests that were sent then."""
        return median(one.latency_s for one in list(self.requests) if since_s <= one.sent_s < until_s)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._ended.wait(max(due_s - time.monotonic(), 0.0)):
            self.requests.append(self._ask())
            due_s = max(due_s + self.count / self.rate, time.monotonic() - 1.0)

    def _ask(self) -> Answered:
        sent_s, said, error = time.time(), b"", ""
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
                while part := connection.recv(4096):
                    said += part
        except OSError as problem:
            error = repr(problem)
        head, _, body = said.partition(b"\r\n\r\n")
        good = head.startswith(b"HTTP/1.1 200") and body.isdigit()
        return Answered(sent_s, time.time(), int(body) if good else 0, error or ("" if good else f"said {said!r}"))


@contextlib.contextmanager
def load(port: int, rate: float, count: int = 4) -> Iterator[Clients]:
    """Clients while the block runs."""
    clients = Clients(port, rate, count)
    clients.start()
    try:
        yield clients
    finally:
        clients.end()
