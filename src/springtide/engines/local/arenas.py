"""What the arenas of training jobs say, read where they lie: nobody is asked, and each is mapped once."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
from collections import defaultdict, deque
from pathlib import Path

from springtide.engines.engine import TrainingSeen, WorkerSeen
from springtide.spec.errors import SpringtideError
from springtide.train import control, runs
from springtide.train.arena import Arena, StepRecord, Word
from springtide.train.launched import Launched
from springtide.train.protocol import UNLIMITED, Kind

_LATELY = 32  # steps from which a median is taken, for each number of workers
_READ = 64  # steps read at a look
_START_BYTES = 1 << 16


class Watched:
    """One attempt of a training job: the process `pid`, whose run lies in `folder`."""

    def __init__(self, folder: Path, pid: int) -> None:
        self.folder, self.pid = folder, pid
        self._launched: Launched | None = None
        self._arena: Arena | None = None
        self._steps = UNLIMITED
        self._microbatches: int | None = None
        self._resumed: int | None = None  # told by the run a moment after its arena is there
        self._last: StepRecord | None = None
        self._seconds: defaultdict[int, deque[float]] = defaultdict(lambda: deque(maxlen=_LATELY))

    def close(self) -> None:
        """The memory of the run is held no longer."""
        if self._arena is not None:
            os.close(self._arena.descriptor)
            self._arena = None

    def look(self) -> TrainingSeen | None:
        """None while there is no arena yet."""
        arena = self._arena or self._open()
        if arena is None:
            return None
        if self._resumed is None:
            self._resumed = _resumed(self.folder)
        now, resumed = arena.now(), self._resumed or 0
        step = now.step - (now.kind == Kind.TRAIN) if now is not None else resumed
        self._read_steps(arena, step)
        loss = self._last.loss if self._last is not None else None
        steps = arena.last_step(self._steps)
        return TrainingSeen(
            step=step,
            steps=steps if steps < UNLIMITED else None,  # the end of a stream is not known beforehand
            loss=loss if loss == loss else None,
            microbatches=self._microbatches,
            supervisor=arena.words[Word.SUPERVISOR] or None,
            workers=tuple(WorkerSeen(one["pid"], one["share"]) for one in runs.workers(arena)),
            step_s={workers: statistics.median(times) for workers, times in self._seconds.items()},
            resumed_step=resumed,
        )

    def wanted(self) -> int | None:
        """How many workers the run was last asked for; None while it cannot be asked."""
        arena = self._arena or self._open()
        return arena.words[Word.WANTED] if arena is not None else None

    def ask(self, workers: int) -> None:
        """So many workers, fewer at once. Nothing is waited for: `wanted` tells whether it was heard."""
        assert self._launched is not None
        with contextlib.suppress(OSError):
            channel = control.connect(self._launched.socket, 0.0)
            channel.send({"do": "resize", "workers": workers, "now": True})
            channel.close()

    def _open(self) -> Arena | None:
        try:
            launched = Launched.read(self.folder)
        except (OSError, ValueError, TypeError):
            return None
        if launched.launcher != self.pid or (arena := runs.open_arena(launched)) is None:
            return None
        try:
            description = arena.description()
            self._microbatches = int(description["order"]["microbatches"])
            self._steps = int(description["course"]["steps"])
        except (ValueError, KeyError, TypeError, SpringtideError):
            os.close(arena.descriptor)
            return None
        self._launched, self._arena = launched, arena
        return arena

    def _read_steps(self, arena: Arena, step: int) -> None:
        before = self._last
        for record in arena.steps_after(max(before.step if before else 0, step - _READ), step):
            if not record.stamped:
                break
            if before and before.step + 1 == record.step and before.workers == record.workers:
                self._seconds[record.workers].append(max(0.0, record.time - before.time))
            self._last = before = record


def _resumed(folder: Path) -> int | None:
    """The step at which the run says that it began; None: it has not said it yet."""
    try:
        with (folder / "events.jsonl").open() as lines:
            for line in lines.read(_START_BYTES).splitlines():
                event = json.loads(line)
                if event.get("event") == "start":
                    return int(event["resumed_step"])
    except (OSError, ValueError, KeyError):
        pass
    return None
