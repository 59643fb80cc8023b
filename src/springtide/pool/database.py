"""The file in which the pool keeps everything, and transactions on it: what was answered is kept, whatever dies."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from springtide.pool import schema
from springtide.spec.errors import SpringtideError

_BUSY_MS = 10_000  # for which a writer waits for another


def nothing(moment: str) -> None:
    """Where no fault is wanted."""
    del moment


class Database:
    """One connection, used by any thread, one at a time. `fault` is called around each commit; tests raise in it."""

    def __init__(self, path: Path, fault: Callable[[str], None] = nothing) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self._fault, self._lock = path, fault, threading.RLock()
        path.touch(mode=0o600)
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            schema.migrate(self._connection, str(path))
        except sqlite3.DatabaseError as error:
            raise SpringtideError(f"{path} cannot be used as the pool's store: {error}") from None

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Statements that see one state of the file."""
        with self._lock:
            nested = self._connection.in_transaction
            if not nested:
                self._connection.execute("BEGIN")
            try:
                yield self._connection
            finally:
                if not nested:
                    self._connection.execute("COMMIT")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on the disk when this ends, or nothing of it; within another it is a part of that one.

        SpringtideError: disk full, file broken.
        """
        with self._lock:
            if self._connection.in_transaction:
                yield self._connection
                return
            try:
                self._connection.execute("BEGIN IMMEDIATE")
                yield self._connection
                self._fault("before commit")
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                self._roll_back()
                raise SpringtideError(f"the pool cannot write {self.path}: {error}; nothing was changed") from None
            except BaseException:
                self._roll_back()
                raise
        self._fault("after commit")

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def _roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")
