"""One job as the engine holds it: what was ordered, what its shim wrote down of it, and how that looks to the pool."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from springtide.engines.engine import Exit, Phase, ReplicaSeen
from springtide.engines.local.arenas import Watched
from springtide.engines.local.state import Folder, Order, Record, load, save
from springtide.engines.local.training import INTERRUPTED, REPORT
from springtide.spec.job import Job, Kind
from springtide.train.control import Channel

_RESULT = (
    "state",
    "digest",
    "message",
    "metrics",
    "samples",
    "samples_lost",
    "samples_twice",
    "seconds",
    "resumed_step",
)


@dataclass
class Held:
    """See the module. `leaving`: forgotten, and not told any more; its shim is clearing up."""

    folder: Folder
    about: dict[str, Any]
    orders: dict[str, Order] = field(default_factory=dict)
    records: dict[str, Record] = field(default_factory=dict)
    ends: dict[str, ReplicaSeen] = field(default_factory=dict)
    channel: Channel | None = None
    shim: tuple[int, int] | None = None  # the last that was called: pid, start time
    child: subprocess.Popen[bytes] | None = None  # the shim, where this engine started it
    tried_s: float = 0.0  # when a shim was last started
    workers: int | None = None  # of training: as last asked for
    arena: Watched | None = None
    leaving: bool = False

    @property
    def id(self) -> str:
        return self.folder.job

    @property
    def kind(self) -> Kind:
        return Kind(self.about["kind"])

    @property
    def unfinished(self) -> list[str]:
        """Replicas that were ordered and have not ended."""
        return [name for name in self.orders if not self.records[name].ended]

    def read(self, names: Iterable[str] | None = None) -> None:
        """From the files, which alone count."""
        for name in self.folder.replicas() if names is None else names:
            if name not in self.orders and (order := self.folder.order(name)) is not None:
                self.orders[name] = order
            if name in self.orders:
                self.records[name] = self.folder.record(name)

    def drop(self, name: str) -> None:
        """Its end is on record elsewhere."""
        self.orders.pop(name, None)
        self.records.pop(name, None)
        self.ends.pop(name, None)

    def seen(self, name: str, ready: bool) -> ReplicaSeen:
        """How that replica looks now; `ready`: it may be taken to do its work."""
        order, record = self.orders[name], self.records[name]
        if record.ended:
            if name not in self.ends:
                self.ends[name] = self._replica(order, record, Phase.ENDED, self._exit(name, record))
            return self.ends[name]
        phase = Phase.STOPPING if record.asked else Phase.RUNNING if record.pid and ready else Phase.STARTING
        return self._replica(order, record, phase, None)

    def _replica(self, order: Order, record: Record, phase: Phase, how: Exit | None) -> ReplicaSeen:
        return ReplicaSeen(phase, order.revision, record.pid or None, order.node, record.started_s, how)

    def _exit(self, name: str, record: Record) -> Exit:
        assert record.ended_s is not None
        result = self._result(name, record) if self.kind == Kind.TRAINING else None
        return Exit(record.ended_s, record.code, record.cause, record.asked, record.tail, result)

    def _result(self, name: str, record: Record) -> dict[str, Any] | None:
        """Of a training run: its report, or what can be said without one."""
        try:
            report = json.loads((self.folder.attempt(name) / REPORT).read_text())
        except (OSError, ValueError):
            state = "interrupted" if record.asked or record.code == INTERRUPTED else "failed"
            return {"state": state, "message": record.tail[-1] if record.tail else record.cause}
        written = report.get("checkpoints") or [{}]
        known = {key: report[key] for key in _RESULT if key in report}
        return known | {"step": report["steps"], "checkpoint": written[-1].get("path")}

    def close(self) -> None:
        """Nothing of it is held open."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        if self.arena is not None:
            self.arena.close()
            self.arena = None


def begin(folder: Folder, job: Job, pool: str, grouped: bool) -> Held:
    """A job that was not known: its folder, and what a successor of this engine must know."""
    folder.path.mkdir(parents=True, exist_ok=True)
    folder.path.chmod(0o711)  # a team's own user passes through to its working folder
    window_s = job.load.window_s if job.load else None
    by_cores = job.load is not None and job.load.cpu is not None
    about = {
        "kind": str(job.kind), "service": job.kind == Kind.SERVICE, "pool": pool, "grouped": grouped, "name": job.name,
        "window_s": window_s, "by_cores": by_cores, "model": job.model, "gpu": job.resources.gpu,
        "scratch": job.scratch, "lag": job.lag,
    }  # fmt: skip
    save(folder.about, about)
    return Held(folder, about)


def find(folder: Folder) -> Held | None:
    """A job that an earlier engine began; None: it had not come that far."""
    about = load(folder.about)
    if about is None:
        return None
    held = Held(folder, about)
    held.read()
    return held
