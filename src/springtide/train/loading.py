"""Fetching the samples of a microbatch: in the worker's main thread, in a thread of its own, or in processes.

The bits of a batch do not depend on the mode. Nothing is started before the first `get`: whoever makes a `Loader` may
be a nursery that forks.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from springtide.data.order import OrderLike
from springtide.spec import UserError
from springtide.train.ahead import Ahead, Group, Item
from springtide.train.fetching import Fetch, Fetched, Seed
from springtide.train.loader_processes import Processes

__all__ = ["Fetched", "Loader"]

THREAD_PAYS_SECONDS = 300e-6  # several times what handing a batch from one thread to another costs
MEASURED = 4  # fetches before `auto` decides


class Loader:
    """Gives the batch of any microbatch, fetched a little ahead of its time.

    `mode` is "main" (the calling thread), "thread", "process:N", or "auto": a thread where the dataset is known to draw
    no random numbers and a fetch costs more than a hand-over, else main. `seed(step, microbatch)` is called before the
    samples of a microbatch are fetched, in the process that fetches them, unless they are known to draw none
    (Randomness law); in "main" mode and without processes that changes the caller's generators, so the caller seeds
    again before it computes. An exception of a fetch carries `samples` (the microbatch's indices), `item` (step,
    microbatch) and, where it is known, `sample`.
    """

    def __init__(
        self,
        dataset: Any,
        order: OrderLike,
        *,
        collate: Callable[[list[Any]], Any] | None = None,
        mode: str = "auto",
        ahead: int = 4,
        seed: Seed,
    ) -> None:
        self._mode, self._processes = _parse(mode)
        # In a thread seeding would reach into the model's generators, so what draws is not fetched there at all.
        self._fetch = Fetch(dataset, order, collate, None if self._mode == "thread" else seed)
        self._ahead = max(1, ahead)
        self._source: _Source | None = None
        self._measured: list[float] = []

    @property
    def looks_ahead(self) -> bool:
        """Whether `expect` is of any use."""
        return not isinstance(self._started(), _Main)

    def expect(self, items: Sequence[Item], *, fused: bool = False) -> None:
        """Says what will be asked next, in order; `fused`: all items of a step together. It may change at any moment.

        What follows the last item is guessed to be the same microbatches of the next steps.
        """
        groups: list[Group] = [(item,) for item in items]
        if fused:
            steps = dict.fromkeys(step for step, _ in items)
            groups = [tuple(item for item in items if item[0] == step) for step in steps]
        self._started().expect(groups)

    def get(self, step: int, microbatch: int) -> Fetched:
        """The batch of one microbatch."""
        return self.get_many(((step, microbatch),))

    def get_many(self, items: Sequence[Item]) -> Fetched:
        """One batch of the samples of several microbatches, in the given order."""
        source = self._started()
        if self._mode != "auto" or len(self._measured) == MEASURED:
            return source.get(tuple(items))
        begun = time.perf_counter()
        fetched = source.get(tuple(items))
        self._measured.append(time.perf_counter() - begun)
        if len(self._measured) == MEASURED and self._fetch.pure and min(self._measured) > THREAD_PAYS_SECONDS:
            self._source = _Thread(self._fetch, self._ahead)
        return fetched

    def close(self) -> None:
        """Ends the thread or the processes."""
        if self._source is not None:
            self._source.close()
        self._source = None

    def _started(self) -> _Source:
        if self._source is None:
            if self._mode == "thread":
                self._source = _Thread(self._fetch, self._ahead)
            elif self._mode == "process":
                self._source = Processes(self._fetch, self._ahead, self._processes)
            else:
                self._source = _Main(self._fetch)
        return self._source


def _parse(mode: str) -> tuple[str, int]:
    if mode in ("auto", "main", "thread"):
        return mode, 0
    kind, _, number = mode.partition(":")
    if kind == "process" and number.isdecimal() and int(number) > 0:
        return kind, int(number)
    raise UserError(f'loading="{mode}" is not a way to load; write "auto", "main", "thread" or "process:2"')


class _Source(Protocol):
    def expect(self, groups: Sequence[Group]) -> None: ...
    def get(self, group: Group) -> Fetched: ...
    def close(self) -> None: ...


class _Main:
    def __init__(self, fetch: Fetch) -> None:
        self.get = fetch

    def expect(self, groups: Sequence[Group]) -> None:
        pass

    def close(self) -> None:
        pass


class _Thread:
    """One thread that fetches what is expected; what is not ready when it is asked is fetched by whoever asks."""

    def __init__(self, fetch: Fetch, ahead: int) -> None:
        self._fetch = fetch
        self._ahead = Ahead(ahead)
        self._ready: dict[Group, Fetched | Exception] = {}
        self._busy: Group | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def expect(self, groups: Sequence[Group]) -> None:
        with self._changed:
            self._ahead.expect(groups)
            self._changed.notify_all()

    def get(self, group: Group) -> Fetched:
        if self._thread is None:
            return self._first(group)
        with self._changed:
            self._ahead.asked(group)
            while self._busy == group:
                self._changed.wait()
            found = self._ready.pop(group, None)
            self._changed.notify_all()
        if isinstance(found, Exception):
            raise found
        return found if found is not None else self._fetch(group)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _first(self, group: Group) -> Fetched:
        # Randomness law: generators belong to the process, so a sample that draws must not be fetched beside the model.
        before = None if self._fetch.pure else _generators()
        fetched = self._fetch(group)
        if before is not None and not _same(before, _generators()):
            raise UserError(
                'samples of this dataset draw random numbers, which loading="thread" would mix with the model\'s; '
                'use loading="main" or loading="process:2"'
            )
        self._ahead.asked(group)
        self._thread = threading.Thread(target=self._work, name="springtide-loading", daemon=True)
        self._thread.start()
        return fetched

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (group := self._next()) is None:
                    self._changed.wait()
                if self._closed:
                    return
                assert group is not None
                self._busy = group
            try:
                found: Fetched | Exception = self._fetch(group)
            except Exception as error:
                found = error
            with self._changed:
                self._busy = None
                self._ready[group] = found
                self._ahead.trim(self._ready)
                self._changed.notify_all()

    def _next(self) -> Group | None:
        upcoming = (group for group in self._ahead.upcoming() if group not in self._ready)
        return next((group for group in upcoming if self._fetch.ready(group)), None)


def _generators() -> list[Any]:
    return [torch.random.get_rng_state().numpy().tobytes(), random.getstate(), np.random.get_state(legacy=True)]


def _same(before: list[Any], after: list[Any]) -> bool:
    return before[:2] == after[:2] and all(np.array_equal(a, b) for a, b in zip(before[2], after[2], strict=True))
