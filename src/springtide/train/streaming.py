"""A run on a stream as a worker holds it: where its order comes from, and, where nobody leads, the planning too."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from springtide.data.streams.source import Source
from springtide.spec import UserError
from springtide.train.arena import Arena, Word
from springtide.train.arguments import Arguments
from springtide.train.planner import AHEAD, Planner, Task
from springtide.train.step_reader import Reader
from springtide.train.stream_order import StreamOrder

STEPS = "TIDE_STEPS"  # a step log to go through once more, in a script that runs alone


class Streaming:
    """See the module. Under `tide run` the supervisor plans; alone, the worker does whenever it has nothing to do."""

    def __init__(self, given: Arguments, order: StreamOrder) -> None:
        assert isinstance(given.dataset, Source)
        self.rules, self.order = given.dataset.rules, order
        self._planner: Planner | None = None
        self._arena: Arena | None = None

    def description(self) -> dict[str, Any]:
        """For whoever plans."""
        return asdict(self.rules)

    def follow(self, log: Path, arena: Arena) -> None:
        """Take the steps from that log, as far as the arena says that it is durable."""
        self.order.follow(log, lambda: arena.words[Word.PLANNED] - 1, lambda: _counted(arena))

    def lead(self, arena: Arena, steps: int) -> None:
        """Plan here, in a log that ends with this process, or go through a given one. UserError: there is no stream."""
        if given := os.environ.get(STEPS):
            self._repeat(Path(given), arena)
            return
        log = Path(f"/proc/self/fd/{os.memfd_create('steps', os.MFD_CLOEXEC)}")
        ahead = AHEAD if self.rules.seconds is None else 1  # the time is looked at where steps are planned
        task = Task(self.rules, self.order.batch_size, steps, log, began=time.time(), ahead=ahead)
        self._planner = Planner(task, lambda what: print(f"tide: {what}", file=sys.stderr, flush=True))
        self._arena = arena
        arena.words[Word.PLANNED] = 1
        self.follow(log, arena)
        self.plan(0)

    def _repeat(self, log: Path, arena: Arena) -> None:
        reader = Reader(log)
        begun, last = (reader.beginning(), reader.last()) if log.is_file() else (None, None)
        if begun is None or begun.step or last is None:
            raise UserError(f"{STEPS}={log}: this is no step log that begins with step 1")
        arena.words[Word.PLANNED] = arena.words[Word.LAST] = last.step + 1
        self.follow(log, arena)

    def plan(self, reached: int) -> None:
        """Plan what follows that step; where there is nothing to plan, wait for it a while."""
        assert self._planner is not None and self._arena is not None
        if not self._planner.advance(reached):
            self._planner.wait()
        words = self._arena.words
        words[Word.PLANNED] = self._planner.planned + 1
        if self._planner.last is not None:
            words[Word.LAST] = self._planner.last + 1


def _counted(arena: Arena) -> tuple[int, int]:
    """Samples, and their checksum, of the state that the tick under way reads."""
    now = arena.now()
    position = arena.position(now.read) if now is not None else {}
    return int(position.get("samples", 0)), int(position.get("checksum", 0))
