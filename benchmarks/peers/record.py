"""The record of committed steps: one JSON line per step into the pipe that the benchmark reads."""

from __future__ import annotations

import json
import os
import time


class Record:
    """Writes {"event": "step", "step", "time", "workers", "pid"} to the file that BENCHMARK_STEPS names, if it does.

    A line is shorter than PIPE_BUF, so lines of several processes do not mix.
    """

    def __init__(self) -> None:
        path = os.environ.get("BENCHMARK_STEPS")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND) if path else None

    def step(self, step: int, workers: int) -> None:
        """Says that `step` (from 1) is committed by `workers`."""
        self._say(event="step", step=step, time=time.time(), workers=workers, pid=os.getpid())

    def words(self, real: int, every: int) -> None:
        """Says how many words of a batch were real, and how many with the padding."""
        self._say(event="words", real=real, all=every)

    def _say(self, **row: object) -> None:
        if self._file is not None:
            os.write(self._file, json.dumps(row).encode() + b"\n")
