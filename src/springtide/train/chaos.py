"""Blows that `--chaos` asks for: when each is due, and what it does to a running job. Real signals, real processes."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from springtide.spec.quantities import Blow


@dataclass(frozen=True, slots=True)
class Target:
    """Who can be hit now."""

    workers: dict[int, int]  # worker -> pid
    supervisor: int
    wanted: int


class Chaos:
    """Keeps count of what was done. `resize` is called for joins and leaves, `tell` with what was done."""

    def __init__(
        self, blows: Sequence[Blow], seed: int, resize: Callable[[int], object], tell: Callable[[str], object]
    ) -> None:
        self._blows, self._resize, self._tell = blows, resize, tell
        self._random = random.Random(seed)
        self._last: dict[int, tuple[float, int]] = {}
        self._done: set[int] = set()

    def due(self, step: int, now: float) -> list[Blow]:
        """The blows whose moment has come, each once a moment. `now` in seconds of any clock."""
        found = []
        for number, blow in enumerate(self._blows):
            at, since = self._last.setdefault(number, (now, step))
            if blow.at_step is not None:
                hit = number not in self._done and step >= blow.at_step
            elif blow.every_seconds is not None:
                hit = now - at >= blow.every_seconds
            else:
                hit = blow.every_steps is not None and step - since >= blow.every_steps
            if hit:
                self._done.add(number)
                self._last[number] = now, step
                found.append(blow)
        return found

    def strike(self, blow: Blow, target: Target) -> None:
        """Do it, and say so."""
        if blow.kind == "supervisor":
            self._send(target.supervisor, signal.SIGKILL, "kill the supervisor")
            return
        if blow.kind in ("join", "leave"):
            count = 1 if blow.count == "all" else int(blow.count)
            wanted = max(1, target.wanted + (count if blow.kind == "join" else -count))
            self._tell(f"resize to {wanted}")
            self._resize(wanted)
            return
        count = len(target.workers) if blow.count == "all" else min(int(blow.count), len(target.workers))
        for worker in sorted(self._random.sample(sorted(target.workers), count)):
            number = signal.SIGKILL if blow.kind == "kill" else signal.SIGSTOP
            self._send(target.workers[worker], number, f"{blow.kind} worker {worker}")

    def _send(self, pid: int, number: signal.Signals, what: str) -> None:
        if pid > 0:
            self._tell(f"{what} (pid {pid})")
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return
