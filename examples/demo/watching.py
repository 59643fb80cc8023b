"""Looking at the pool while the day goes by: jobs and events as the API tells them, steps from the run's memory."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from pathlib import Path

from demo.recording import Commit, Recording, Request, Sample
from springtide import Client
from springtide.spec.errors import Unreachable
from springtide.train import runs
from springtide.train.arena import Arena
from springtide.train.launched import Launched
from springtide.train.protocol import Kind


class Steps:
    """The committed steps of a pool's training job, with the moment of each, whoever makes them."""

    def __init__(self, home: Path, name: str) -> None:
        self._folders, self._name = home / "pool" / "jobs", name
        self._arena: Arena | None = None
        self._launcher = 0
        self._last = 0

    def read(self) -> list[Commit]:
        """Those since the last look."""
        found = self._new()
        if (launched := self._launched()) is not None and launched.launcher != self._launcher:
            if (arena := runs.open_arena(launched)) is None:
                return found
            self.close()
            # Another process of the same job begins at its last checkpoint: what it makes anew is told again.
            self._arena, self._launcher, self._last = arena, launched.launcher, 0
            found += self._new()
        return found

    def close(self) -> None:
        if self._arena is not None:
            os.close(self._arena.descriptor)
            self._arena = None

    def _launched(self) -> Launched | None:
        for folder in self._folders.glob(f"{self._name}-*/run/runs/{self._name}"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                return Launched.read(folder)
        return None

    def _new(self) -> list[Commit]:
        now = self._arena.now() if self._arena is not None else None
        if now is None:
            return []
        assert self._arena is not None
        found = []
        for record in self._arena.steps_after(self._last, now.step - (now.kind == Kind.TRAIN)):
            if not record.stamped:
                break
            found.append(Commit(record.step, record.time, record.workers))
            self._last = record.step
        return found


class Watch:
    """Fills a recording."""

    def __init__(self, recording: Recording, client: Client, home: Path) -> None:
        self.recording = recording
        self._client, self._steps = client, Steps(home, "digits")
        self._seen = 0  # events

    def look(self) -> bool:
        """Whether the pool could be asked."""
        self.recording.commits += self._steps.read()
        try:
            at_s = time.time()
            jobs = self._client.jobs()
            for event in self._client.events(after=self._seen, limit=1000):
                self._seen = event["id"]
                self.recording.events.append(event)
        except Unreachable:
            return False
        self.recording.jobs |= {job["name"]: job for job in jobs}
        held = {job["name"]: job["planned"] for job in jobs if job["planned"]}
        self.recording.samples.append(Sample(at_s, held))
        return True

    def hear(self, requests: subprocess.Popen[str]) -> threading.Thread:
        """Takes down what the load generator says, to its end."""
        thread = threading.Thread(target=self._hear, args=(requests,), daemon=True)
        thread.start()
        return thread

    def _hear(self, requests: subprocess.Popen[str]) -> None:
        assert requests.stdout is not None
        for line in requests.stdout:
            sent_s, answered_s, tries, pid = line.split()
            self.recording.requests.append(Request(float(sent_s), float(answered_s), int(tries), int(pid)))

    def close(self) -> None:
        self._steps.close()
        self._client.close()
