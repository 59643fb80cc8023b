"""The queue of one model: requests in, answers out, computed in batches, by one thread at a time.

A batch begins as soon as the one before it is done, so an idle model answers at once, and a busy one takes all that
came meanwhile: nobody waits for a batch to fill. Computing has a thread of its own, so that requests are read
meanwhile; only where one request is alone, and the model quick, is it computed in the event loop: handing it over and
back costs as much as the computing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from springtide.serve.server import batching, faults
from springtide.serve.server.faults import Fault
from springtide.serve.server.loaded import Inputs, Loaded, Outputs
from springtide.serve.server.metrics import Metrics

T = TypeVar("T")
_USUAL_S = 0.01  # for a request, before any was measured
_QUICK_S = 0.001
_LOOKS = 8  # batches whose quickest says how quick the model is: the others may have waited for a core
_WEIGHT = 0.1  # of the last batch in the running mean


@dataclass(frozen=True, slots=True)
class Limits:
    """Of a model's queue. `rows`: of one batch."""

    rows: int = 64
    waiting: int = 512


@dataclass(slots=True, eq=False)
class Work:
    """One request that waits or is computed, by the version that it began with."""

    loaded: Loaded
    inputs: Inputs
    key: Hashable
    rows: int
    future: asyncio.Future[Outputs]


class Queue:
    """See the module."""

    def __init__(self, name: str, limits: Limits, metrics: Metrics, threads: int) -> None:
        self.name, self._limits, self._metrics = name, limits, metrics
        self._waiting: deque[Work] = deque()
        self._busy = self._called = False
        self._each_s = _USUAL_S
        self._took_s: deque[float] = deque(maxlen=_LOOKS)
        self._elsewhere = 0  # calls of the module beside batches, in the thread
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, f"model {name}", torch.set_num_threads, (threads,))

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def drain_s(self) -> float:
        """How long what waits will take."""
        return max(1.0, math.ceil(len(self._waiting) * self._each_s))

    def submit(self, loaded: Loaded, inputs: Inputs, deadline_ms: float | None = None) -> asyncio.Future[Outputs]:
        """The answer to come. Fault: too many wait."""
        if len(self._waiting) >= self._limits.waiting:
            raise faults.full(f"{len(self._waiting)} requests to {self.name} wait already", self.drain_s)
        key, rows = batching.key_of(inputs)
        alone = key is None or not loaded.batches
        work = Work(loaded, inputs, None if alone else (id(loaded), key), rows, self._loop.create_future())
        if deadline_ms is not None:
            handle = self._loop.call_later(deadline_ms / 1000, self._late, work)
            work.future.add_done_callback(lambda _: handle.cancel())
        self._waiting.append(work)
        self._kick()
        return work.future

    async def run(self, do: Callable[[], T]) -> T:
        """In the model's thread, between two batches: the module is touched by no other."""
        self._elsewhere += 1
        try:
            return await self._loop.run_in_executor(self._thread, do)
        finally:
            self._elsewhere -= 1

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _late(self, work: Work) -> None:
        if not work.future.done():
            work.future.set_exception(faults.late())

    def _kick(self) -> None:
        """Begin after what else is ready in this turn of the loop: requests that came together go together."""
        if not self._busy and not self._called:
            self._called = True
            self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._called = False
        batching.drop(self._waiting, lambda work: work.future.done())  # late, or its caller is gone
        if self._busy or not self._waiting:
            return
        most = min(self._limits.rows, self._waiting[0].loaded.most_rows or self._limits.rows)
        batch = batching.take(self._waiting, most)
        self._busy = True
        if len(batch) == 1 and self._quick:
            self._done(batch, _computed(batch))
            return
        done = self._loop.run_in_executor(self._thread, _computed, batch)
        done.add_done_callback(lambda found: self._done(batch, _outcome(found, batch)))

    @property
    def _quick(self) -> bool:
        """Whether a batch now would hold up nobody."""
        return not self._elsewhere and len(self._took_s) == _LOOKS and min(self._took_s) < _QUICK_S

    def _done(self, batch: list[Work], outcome: tuple[Sequence[Outputs | BaseException], float]) -> None:
        answers, took_s = outcome
        self._busy = False
        if self._waiting:
            self._kick()
        self._metrics.batch(self.name, sum(work.rows for work in batch))
        self._metrics.waiting(self.name, len(self._waiting))
        self._each_s += _WEIGHT * (took_s / len(batch) - self._each_s)
        self._took_s.append(took_s)
        for work, answer in zip(batch, answers, strict=True):
            if work.future.done():
                continue
            if isinstance(answer, BaseException):
                work.future.set_exception(answer)
            else:
                work.future.set_result(answer)


def _computed(batch: Sequence[Work]) -> tuple[Sequence[Outputs | BaseException], float]:
    """An answer for each, and how long it took, in seconds."""
    begun_s = time.perf_counter()
    try:
        found: Sequence[Outputs | BaseException] = batch[0].loaded.compute(
            [work.inputs for work in batch], [work.rows for work in batch]
        )
    except Exception as error:
        found = [error] * len(batch)
    return found, time.perf_counter() - begun_s


def _outcome(
    found: asyncio.Future[tuple[Sequence[Outputs | BaseException], float]], batch: Sequence[Work]
) -> tuple[Sequence[Outputs | BaseException], float]:
    if found.cancelled():
        return [Fault("the server is ending", 503, faults.RETRY_S)] * len(batch), 0.0
    return found.result()
