"""A local engine on a home of its own, jobs for it, and looking at what it sees."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from springtide.engines.engine import JobSeen, Notice, Phase, Place, ReplicaSeen, Task
from springtide.engines.local.engine import LocalEngine
from springtide.spec.job import Job, Kind
from springtide.spec.resources import Resources

HANGS_S = 90.0  # ends a test that would hang for ever; nothing is asserted of it
PLAIN = Resources(cpu=1, memory=256 * 2**20)


def a_task(name: str, kind: Kind = Kind.BATCH, code: str = "", **given: Any) -> Task:
    """A job that runs this Python text (or what is given as `command`)."""
    about = {key: given.pop(key) for key in ("source", "script", "revision", "attempt", "secrets") if key in given}
    given = {"resources": PLAIN, "command": () if kind == Kind.TRAINING else ("python", "-c", code)} | given
    return Task(f"{name}-1", Job(kind=kind, name=name, **given), **about)


def places(*replicas: str) -> list[Place]:
    return [Place(replica, "here") for replica in replicas]


class Seen:
    """What an engine sees, looked at until it is so."""

    def __init__(self, engine: LocalEngine) -> None:
        self.engine = engine
        self.notices: list[Notice] = []

    def job(self, task: Task) -> JobSeen:
        found = self.engine.observe()
        self.notices += found.notices
        return found.jobs.get(task.id, JobSeen())

    def replica(self, task: Task, replica: str) -> ReplicaSeen:
        return self.job(task).replicas[replica]

    def until(self, task: Task, true: Callable[[JobSeen], object], what: str = "") -> JobSeen:
        """Look again whenever something happened."""
        limit = time.monotonic() + HANGS_S
        while not true(found := self.job(task)):
            if time.monotonic() > limit:
                logs = "\n".join(path.read_text() for path in self.engine.root.glob("logs/*/*.log"))
                raise AssertionError(f"never: {what}\n{found}\n{self.notices}\n{logs[-3000:]}")
            self.engine.wait(0.05)
        return found

    def ended(self, task: Task, replica: str) -> ReplicaSeen:
        """Its end."""
        seen = self.until(task, lambda job: _phases(job.replicas).get(replica) == Phase.ENDED, f"{replica} has ended")
        return seen.replicas[replica]

    def running(self, task: Task, *replicas: str) -> list[int]:
        """Their pids, once they are ready."""
        seen = self.until(
            task, lambda job: all(_phases(job.replicas).get(name) == Phase.RUNNING for name in replicas), "they run"
        )
        return [seen.replicas[name].pid or 0 for name in replicas]


def _phases(replicas: Mapping[str, ReplicaSeen]) -> dict[str, Phase]:
    return {name: seen.phase for name, seen in replicas.items()}


def of_engine(home: Path) -> dict[int, str]:
    """Living processes that belong to the jobs of an engine: pid -> command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
                if str(home).encode() in command + (entry / "environ").read_bytes():
                    found[int(entry.name)] = command.replace(b"\0", b" ").decode()
            except OSError:
                continue
    return found


PYTHON = sys.executable
