"""What engine and shim write down of a job, so that each of them may be killed at any instant.

    pool/jobs/JOB/job.json                  by the engine: what a successor must know of the job
                  shim.json, shim.sock      the shim's name (pid, start time), and where it listens
                  replicas/R/order.json     by the engine, before anything is started: what is to run
                  replicas/R/state.json     by the shim: pid and start time before the program begins, then its end
                  replicas/R/out            the FIFO that it writes into
                  replicas/R/admin.sock     where it answers /health and /metrics
                  run/                      of training: the home of its runs; run/R/ what R reads and reports
                  work-REVISION/, scratch/R/, secrets/
    pool/logs/JOB/R.log                     stays when the job is forgotten

Each file has one writer and is replaced whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from springtide.engines.local.limits import Limits
from springtide.train import process


@dataclass(frozen=True, slots=True)
class Order:
    """One replica that is to run; everything that its parent needs."""

    replica: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    revision: int = 1
    node: str = ""
    devices: tuple[int, ...] = ()
    source: str | None = None  # of its working folder; None: an empty one
    port: int | None = None
    handed: bool = False  # whether it is given the socket of that port
    service: bool = False  # whether it is given a socket of its own, for /health and /metrics
    main_only: bool = False  # told to end by a signal to its main process, not to all of its group
    witnessed: bool = False  # how it ends is written down beside it, and not only told to its parent
    limits: Limits = field(default_factory=Limits)
    person: Mapping[str, Any] | None = None  # uid, gid, home
    ordered_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Record:
    """What became of an order. `kill_at_s` is of the machine's monotonic clock, the other times are unix seconds."""

    pid: int = 0
    start: int = 0  # of the process, in ticks
    boot: str = ""  # of the machine, since pids mean nothing to the next
    started_s: float | None = None
    asked: bool = False  # it was told to end
    kill_at_s: float | None = None
    doom: str = ""  # why it was made to end, where it was
    ended_s: float | None = None
    code: int | None = None
    cause: str = ""
    tail: tuple[str, ...] = field(default=())

    @property
    def ended(self) -> bool:
        return self.ended_s is not None

    @property
    def lives(self) -> bool:
        """Whether that very process runs."""
        return self.boot == boot() and process.alive(self.pid, self.start)


class Folder:
    """Where what belongs to one job lies."""

    def __init__(self, path: Path) -> None:
        self.path, self.job = path, path.name
        self.logs = path.parent.parent / "logs" / path.name
        self.results = path.parent.parent / "results" / path.name  # what outlives the job
        self.socket, self.shim, self.about = path / "shim.sock", path / "shim.json", path / "job.json"
        self.secrets, self.run = path / "secrets", path / "run"

    def replica(self, name: str) -> Path:
        return self.path / "replicas" / name

    def attempt(self, name: str) -> Path:
        """Of a training job, in the home of its runs: what this process reads and reports."""
        return self.run / name

    def work(self, revision: int) -> Path:
        return self.path / f"work-{revision}"

    def revisions(self) -> list[int]:
        """Of which there is a working folder."""
        return [int(path.name.removeprefix("work-")) for path in self.path.glob("work-*")]

    def scratch(self, name: str) -> Path:
        return self.path / "scratch" / name

    def replicas(self) -> list[str]:
        """All that were ordered and are not forgotten."""
        try:
            return sorted(entry.name for entry in os.scandir(self.path / "replicas"))
        except FileNotFoundError:
            return []

    def order(self, name: str) -> Order | None:
        """None: it is forgotten, or was never wholly written."""
        found = load(self.replica(name) / "order.json")
        if found is None:
            return None
        found["limits"] = Limits(**found["limits"])
        for key in ("argv", "devices"):
            found[key] = tuple(found[key])
        return Order(**found)

    def write_order(self, order: Order) -> None:
        at = self.replica(order.replica)
        at.mkdir(parents=True, exist_ok=True, mode=0o700)
        save(at / "order.json", asdict(order))

    def record(self, name: str) -> Record:
        """As of the shim; the empty record while it has written none."""
        found = load(self.replica(name) / "state.json")
        return Record(**{**found, "tail": tuple(found["tail"])}) if found else Record()

    def write_record(self, name: str, record: Record) -> None:
        """On the disk when it returns: a lost one would start a replica twice."""
        save(self.replica(name) / "state.json", asdict(record), durable=True)

    def records(self) -> Iterator[tuple[Order, Record]]:
        for name in self.replicas():
            if (order := self.order(name)) is not None:
                yield order, self.record(name)


def load(path: Path) -> dict[str, Any] | None:
    """None: there is none that could be read."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def save(path: Path, value: Mapping[str, Any], *, durable: bool = False) -> None:
    """Replace the file whole; only its owner may read it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, json.dumps(value).encode())
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)
    aside.replace(path)


def boot() -> str:
    """The name of this start of the machine."""
    global _boot
    if not _boot:
        _boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return _boot


_boot = ""
