"""A lock among all threads of all processes, which the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import os
import threading
import weakref
from pathlib import Path
from types import TracebackType

_known: weakref.WeakSet[Lock] = weakref.WeakSet()


class Lock:
    """An flock on a file of its own, which is made when it is first taken."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._among_threads = threading.Lock()
        self._handle = -1
        _known.add(self)

    def __enter__(self) -> None:
        self.take()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.release()

    def take(self) -> None:
        """Wait for it."""
        self._among_threads.acquire()
        try:
            fcntl.flock(self._opened(), fcntl.LOCK_EX)
        except BaseException:
            self._among_threads.release()
            raise

    def take_if_free(self) -> bool:
        """Take it unless somebody holds it."""
        if not self._among_threads.acquire(blocking=False):
            return False
        try:
            fcntl.flock(self._opened(), fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            self._among_threads.release()
            return False
        except BaseException:
            self._among_threads.release()
            raise

    def release(self) -> None:
        """Give it to the next."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)
        self._among_threads.release()

    def close(self) -> None:
        """It is taken no more."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _opened(self) -> int:
        if self._handle < 0:
            self._handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        return self._handle


def _after_fork() -> None:
    # A fork shares the parent's lock: were the parent killed while it holds it, nobody would get it as long as we live.
    for lock in list(_known):
        lock.close()
        lock._among_threads = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
