"""How workers come to be: forked by a warm nursery, or started cold where a fork cannot be."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from springtide.train import process
from springtide.train.control import Channel
from springtide.train.launch import Launch
from springtide.train.launched import Launched


class Starter:
    """Asks the nursery for workers once it is ready; holds what was asked for until then."""

    def __init__(self, launched: Launched) -> None:
        self._launched = launched
        self._nursery: Channel | None = None
        self._pid = self._started = 0
        self._cold = False
        self._queue: list[int] = []  # rows to ask for once there is a nursery
        self._asked: list[int] = []  # rows asked of the nursery, of which it has told nothing yet
        self._channels: dict[Channel, str] = {}

    def begin(self) -> None:
        """Start a nursery, unless the one of an earlier supervisor lives (it calls again by itself)."""
        if self._cold:
            return
        try:
            kept = json.loads(self._file.read_text())
            if process.alive(kept["pid"], kept["started"]) and not self._pid:
                self._pid, self._started = kept["pid"], kept["started"]
                return
        except (OSError, ValueError, KeyError):
            pass
        self._pid = self._spawn("nursery", 0)
        self._started = process.started(self._pid)
        self._file.write_text(json.dumps({"pid": self._pid, "started": self._started}))

    def ask(self, worker: int) -> int | None:
        """A worker for that row: the pid where it is started cold, None where the nursery will tell."""
        if self._cold:
            return self._spawn("cold", worker)
        if self._nursery is None:
            self._queue.append(worker)
        else:
            self._asked.append(worker)
            with suppress(OSError):  # it is dead: `lost` comes next, and the row is asked of its successor
                self._nursery.send({"do": "fork", "worker": worker})
        return None

    def came(self, worker: int) -> None:
        """A process for that row exists."""
        self._asked = [row for row in self._asked if row != worker]
        self._queue = [row for row in self._queue if row != worker]

    def spoke(self, channel: Channel, role: str) -> None:
        """A script's process called."""
        self._channels[channel] = role

    def nursery_ready(self, channel: Channel) -> None:
        """It has read the script and the state is in the arena."""
        if self._channels.get(channel) == "nursery":
            self._nursery = channel
            queue, self._queue = self._queue, []
            for worker in queue:
                self.ask(worker)

    def go_cold(self) -> list[tuple[int, int]]:
        """No forks from here on: (row, pid) of those that were waiting."""
        self._cold, self._nursery = True, None
        self.end()
        waiting, self._queue, self._asked = self._asked + self._queue, [], []
        return [(worker, self._spawn("cold", worker)) for worker in waiting]

    def lost(self, channel: Channel) -> None:
        """That conversation ended."""
        self._channels.pop(channel, None)
        if channel is self._nursery:
            self._nursery = None
            self._queue, self._asked = self._asked + self._queue, []

    def ended(self, statuses: Mapping[int, int]) -> tuple[int, int | None] | None:
        """(pid, wait status) of the nursery once it is gone, once. Stopped while it is waited for, it is killed."""
        seen = process.stat(self._pid) if self._asked and self._pid else None
        if seen is not None and seen.state in ("T", "t"):
            self.end()
        if not self._pid or process.alive(self._pid, self._started):
            return None
        pid, self._pid = self._pid, 0
        status = statuses.get(pid)
        try:
            found, own = os.waitpid(pid, os.WNOHANG)
            status = own if found else status
        except ChildProcessError:
            pass
        return None if self._cold else (pid, status)

    def end(self) -> None:
        """No nursery is left."""
        if self._pid and process.alive(self._pid, self._started):
            pidfd = process.watch(self._pid)
            if pidfd is not None:
                process.kill(pidfd)
                os.close(pidfd)

    @property
    def _file(self) -> Path:
        return self._launched.folder / "nursery.json"

    def _log(self, role: str, worker: int) -> Path:
        """What the first nursery prints is shown, and what its successors print again is not."""
        folder = self._launched.folder / "workers"
        if role == "cold":
            return folder / f"worker-{worker}.log"
        return folder / f"nursery-{len(list(folder.glob('nursery-*.log')))}.log"

    def _spawn(self, role: str, worker: int) -> int:
        """A process that runs the user's script. exec after vfork: this process may have threads."""
        launched = self._launched
        launch = Launch(
            role, str(launched.folder), str(launched.socket), launched.arena, worker, launched.seed, launched.sample,
            launched.threads,
        )  # fmt: skip
        threads = str(launched.threads or 1)
        environment = os.environ | launch.environment() | {
            "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, "MKL_DYNAMIC": "FALSE", "PYTHONUNBUFFERED": "1",
        }  # fmt: skip
        if launched.seed is not None:
            environment["TIDE_SEED"] = str(launched.seed)
        with self._log(role, worker).open("ab") as log:
            command = [launched.python, "-m", "springtide.train.script", str(launched.folder)]
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, pass_fds=[launched.arena],
                start_new_session=True,
            )  # fmt: skip
        child.returncode = 0  # who waits for it is decided elsewhere: by this supervisor, or by the launcher after it
        return child.pid
