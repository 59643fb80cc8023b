"""Jobs of given sizes that run and queue as many GPUs as a table says, moment by moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from springtide.core.resources import FloatArray, IntArray

EVERY_S = 600.0  # between two lines of the table


@dataclass(slots=True)
class Job:
    """One job as it was in its own cluster: `lasts_s` is how long it ran there."""

    gpus: int
    submit_s: float
    start_s: float = 0.0
    lasts_s: float = EVERY_S


class Redrawn:
    """One cluster. Who ends is drawn evenly; who starts is first in line; what cannot be matched so is drawn anew."""

    def __init__(self, running: FloatArray, pending: FloatArray, sizes: IntArray, rng: np.random.Generator) -> None:
        self._table = list(zip(running.astype(int).tolist(), pending.astype(int).tolist(), strict=True))
        self._sizes = np.sort(sizes)
        self._rng = rng
        self._runs: list[Job] = []
        self._waits: list[Job] = []
        self._all: list[Job] = []
        self._now_s = 0.0

    def jobs(self) -> list[Job]:
        """All jobs of the table's time, by submission."""
        for at, (running, pending) in enumerate(self._table):
            self._now_s = at * EVERY_S
            self._match(running, pending)
        self._now_s = len(self._table) * EVERY_S
        while self._runs:
            self._end()
        return self._all

    def _match(self, running: int, pending: int) -> None:
        while _gpus(self._runs) > running:
            self._end()
        while _gpus(self._waits) > pending:
            first = self._waits.pop(0)
            if first.gpus > running:
                continue  # given up: it runs for as long as one line of the table
            while _gpus(self._runs) + first.gpus > running:
                self._end()
            self._start(first)
        while (room := running - _gpus(self._runs)) > 0:
            self._start(self._submit(room))
        while (room := pending - _gpus(self._waits)) > 0:
            self._waits.append(self._submit(room))

    def _submit(self, most: int) -> Job:
        """A job of a drawn size, of those that are no larger."""
        count = int(np.searchsorted(self._sizes, most, side="right"))
        size = int(self._sizes[self._rng.integers(count)]) if count else most
        job = Job(size, self._now_s)
        self._all.append(job)
        return job

    def _start(self, job: Job) -> None:
        job.start_s = self._now_s
        self._runs.append(job)

    def _end(self) -> None:
        job = self._runs.pop(int(self._rng.integers(len(self._runs))))
        job.lasts_s = max(self._now_s - job.start_s, EVERY_S)


def _gpus(jobs: list[Job]) -> int:
    return sum(job.gpus for job in jobs)
