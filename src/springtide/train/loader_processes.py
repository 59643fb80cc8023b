"""Loader processes: torch's DataLoader, fed one microbatch at a time, each seeded before it is fetched.

They die with the worker that started them, and are replaced when they die before it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from springtide.train import futex
from springtide.train.ahead import Ahead, Group, Item
from springtide.train.fetching import Fetch, Fetched, label

RESTARTS = 3


@dataclass(frozen=True)
class Failure:
    """An exception on its way from a loader process, in parts that torch's queue can carry."""

    kind: type[Exception]
    words: tuple[Any, ...]
    trace: str
    item: Item
    samples: list[int]
    sample: int | None

    @classmethod
    def of(cls, error: Exception, group: Group) -> Failure:
        kind, words = type(error), error.args
        try:
            kind(*words)
            plain = "<locals>" not in kind.__qualname__ and all(isinstance(word, str | int | float) for word in words)
        except Exception:
            plain = False
        if not plain:
            kind, words = RuntimeError, (f"{kind.__name__}: {error}",)
        trace = "".join(traceback.format_exception(error))
        item, samples = getattr(error, "item", group[0]), getattr(error, "samples", [])
        return cls(kind, words, trace, item, samples, getattr(error, "sample", None))

    def error(self) -> Exception:
        error = self.kind(*self.words)
        label(error, self.item, self.samples, self.sample)
        error.add_note(f"in a loader process:\n{self.trace}")
        return error


class Served:
    """What a loader process sees as its dataset: a group goes in, its batch comes out."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    def __getitem__(self, group: Group) -> tuple[Group, Fetched | Failure | None]:
        if not group:
            return group, None
        try:
            return group, self._fetch(group)
        except Exception as error:
            return group, Failure.of(error, group)


class Processes:
    """Processes of torch's DataLoader, fed one group at a time with what is expected."""

    def __init__(self, fetch: Fetch, ahead: int, processes: int) -> None:
        self._fetch, self._processes = fetch, processes
        self._ahead = Ahead(max(ahead, processes))
        self._ready: dict[Group, Fetched | Failure] = {}
        self._sent: deque[Group] = deque()
        self._urgent: Group | None = None
        self._iterator: Iterator[tuple[Group, Fetched | Failure | None]] | None = None

    def expect(self, groups: Sequence[Group]) -> None:
        self._ahead.expect(groups)

    def get(self, group: Group) -> Fetched:
        if group not in self._ready and group not in self._sent:
            self._urgent = group
        restarts = 0
        while group not in self._ready:
            try:
                self._receive()
            except RuntimeError:
                # A loader process died (killed, out of memory): the samples are still there to be fetched.
                restarts += 1
                if restarts > RESTARTS:
                    raise
                self.close()
                self._urgent = group
        self._ahead.asked(group)
        found = self._ready.pop(group)
        self._ahead.trim(self._ready)
        if isinstance(found, Failure):
            raise found.error()
        return found

    def _receive(self) -> None:
        if self._iterator is None:
            self._iterator = self._start()
        with _watched():
            group, found = next(self._iterator)
        self._sent.popleft()
        if found is not None:
            self._ready[group] = found

    def __iter__(self) -> Iterator[Group]:
        """The sampler: never at an end, and an empty group where nothing is expected."""
        while True:
            group, self._urgent = self._urgent, None
            if group is None:
                taken = {*self._sent, *self._ready}
                upcoming = (each for each in self._ahead.upcoming() if each not in taken)
                group = next((each for each in upcoming if self._fetch.ready(each)), ())
            self._sent.append(group)
            yield group

    def _start(self) -> Iterator[tuple[Group, Fetched | Failure | None]]:
        loader: DataLoader[Any] = DataLoader(
            Served(self._fetch),  # type: ignore[arg-type]
            batch_size=None,
            sampler=self,
            collate_fn=_unchanged,
            num_workers=self._processes,
            prefetch_factor=-(-self._ahead.size // self._processes),
            multiprocessing_context="fork",
            worker_init_fn=Bound(os.getpid()),
            generator=torch.Generator(),  # or it would draw from the model's
        )
        with _watched():
            return iter(loader)

    def close(self) -> None:
        self._iterator = None  # torch ends its processes when nobody holds the iterator
        self._sent.clear()


_raising: Any = None  # torch's handler of SIGCHLD, which it installs once in a process and its forks


@contextlib.contextmanager
def _watched() -> Iterator[None]:
    """Lets torch's signal handler raise for a dead loader process here, and never in the midst of the user's code."""
    global _raising
    if threading.current_thread() is not threading.main_thread():  # no handlers there: torch looks every 5 s
        yield
        return
    users = signal.getsignal(signal.SIGCHLD)
    try:
        if _raising is not None:
            signal.signal(signal.SIGCHLD, _raising)
            _raising(signal.SIGCHLD, None)  # for those that died since
        yield
    finally:
        installed = signal.getsignal(signal.SIGCHLD)
        if _raising is None and callable(installed) and installed is not users:
            _raising = installed
        signal.signal(signal.SIGCHLD, users if users is not None else signal.SIG_DFL)


def _unchanged(found: Any) -> Any:
    return found


class Bound:
    """Ties the life of a loader process to the worker that started it."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def __call__(self, number: int) -> None:
        futex.die_with_parent()
        if os.getppid() != self._parent:  # it died before the kernel was told
            os._exit(1)
